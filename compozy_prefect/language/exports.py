"""What a module of JavaScript or TypeScript defines: its syntax tree → functions, and exports.

Functions are looked for in the code of one tool (§6.4), exports in the module of many (§6.3). Only
the outermost level is read: what stands in a function is its own affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from compozy_prefect.language.javascript import Code

if TYPE_CHECKING:
    from tree_sitter import Node

_FUNCTIONS = {"function_declaration", "function_expression", "arrow_function"}
_VARIABLES = {"lexical_declaration", "variable_declaration"}
_NAMED = {  # declarations of one value, by its name
    "function_declaration",
    "generator_function_declaration",
    "class_declaration",
    "abstract_class_declaration",
    "enum_declaration",
    "internal_module",
    "import_alias",
}
_TYPES = {  # what leaves nothing behind when it runs
    "function_signature",
    "interface_declaration",
    "type_alias_declaration",
    "ambient_declaration",
}
_AROUND = {  # an expression: its first part
    "parenthesized_expression",
    "as_expression",
    "satisfies_expression",
    "non_null_expression",
}
_BOUND = {"identifier", "shorthand_property_identifier_pattern"}


class Functions(NamedTuple):
    """The functions of a module by name, empty where there is none, and what it exports by default.

    `defaults` are the expressions and names behind `export default`; one at most is right.
    """

    all: tuple[tuple[str, Node], ...]
    defaults: tuple[Node, ...]


def functions(code: Code) -> Functions:
    """The functions that stand for themselves, or are the value of a variable."""
    found: list[tuple[str, Node]] = []
    defaults: list[Node] = []
    for statement in _parts(code.root):
        declared = statement
        if statement.type == "export_statement":
            exported, inner = _default(statement), statement.child_by_field_name("declaration")
            if exported is not None and exported.type not in _TYPES:
                defaults.append(exported)
            elif exported is None:
                defaults += (
                    one.name
                    for one in _specifiers(statement)
                    if code.of(one.outside) == "default" and not _is_of_another(statement)
                )
            if exported is not None or inner is None:
                continue
            declared = inner
        found += _declared(code, declared)
    return Functions(tuple(found), tuple(defaults))


def is_function(code: Code, value: Node, known: Functions) -> bool:
    """Whether an expression is a function, or the name of one of the module's."""
    bare = _bare(value)
    if bare.type == "identifier":
        return code.of(bare) in {name for name, _ in known.all}
    return bare.type in _FUNCTIONS


def exports(code: Code) -> set[str] | None:
    """The names of a module's exports: keys of the object that is its default, and its own.

    None when they are not all written there: some come from other modules, or are computed.
    """
    found: set[str] = set()
    is_module = False
    for statement in _parts(code.root):
        if statement.type != "export_statement":
            continue
        is_module = True
        names = _exported(code, statement)
        if names is None:
            return None
        found |= names
    return found if is_module or b"export" not in code.raw else None


# --- functions ------------------------------------------------------------------------------------


def _declared(code: Code, statement: Node) -> Iterator[tuple[str, Node]]:
    if statement.type == "function_declaration":
        name = statement.child_by_field_name("name")
        yield ("", statement) if name is None else (code.of(name), name)
    elif statement.type == "expression_statement":
        for part in _parts(statement)[:1]:
            if _bare(part).type in _FUNCTIONS:
                yield "", _bare(part)
    elif statement.type in _VARIABLES:
        for variable in _parts(statement):
            name, value = (variable.child_by_field_name(each) for each in ("name", "value"))
            if name is not None and value is not None and _bare(value).type in _FUNCTIONS:
                yield code.of(name), name


# --- exports --------------------------------------------------------------------------------------


class _Specifier(NamedTuple):
    """`{ name as outside }`."""

    name: Node
    outside: Node


def _exported(code: Code, statement: Node) -> set[str] | None:
    """The names that one `export` adds; None if that is not written there."""
    words = {child.type for child in statement.children}
    if "type" in words:
        return set()
    if "default" in words:
        return _keys(code, _default(statement))
    if "namespace_export" in words:  # `* as name`
        inner = next(one for one in _parts(statement) if one.type == "namespace_export")
        return {_name(code, one) for one in _parts(inner)}
    if "*" in words or "=" in words:
        return None
    if "export_clause" in words:
        return _listed(code, statement)
    declared = statement.child_by_field_name("declaration")
    if declared is None:
        return None
    if declared.type in _NAMED:
        name = declared.child_by_field_name("name")
        return None if name is None else {code.of(name)}
    if declared.type in _VARIABLES:
        return {
            code.of(name)
            for variable in _parts(declared)
            if (bound := variable.child_by_field_name("name")) is not None
            for name in _below(bound)
            if name.type in _BOUND
        }
    return set() if declared.type in _TYPES else None


def _listed(code: Code, statement: Node) -> set[str] | None:
    found: set[str] = set()
    for one in _specifiers(statement):
        name = _name(code, one.outside)
        if name != "default":
            found.add(name)
        elif _is_of_another(statement) or (keys := _keys(code, one.name)) is None:
            return None
        else:
            found |= keys
    return found


def _keys(code: Code, value: Node | None) -> set[str] | None:
    """The keys of an object, or of the one that a name stands for; None if it may have others."""
    value = None if value is None else _bare(value)
    if value is not None and value.type == "identifier":
        value = _constant(code, code.of(value))
    if value is None or value.type != "object":
        return None
    found: set[str] = set()
    for member in _parts(value):
        if member.type == "shorthand_property_identifier":
            found.add(code.of(member))
            continue
        key = member.child_by_field_name("key" if member.type == "pair" else "name")
        if key is None or key.type == "computed_property_name" or b"\\" in (key.text or b""):
            return None
        found.add(_name(code, key))
    return found


def _constant(code: Code, name: str) -> Node | None:
    """The value of a variable that nothing but the export can have touched."""
    if len(re.findall(rf"(?<![\w$]){re.escape(name)}(?![\w$])", code.raw.decode())) != 2:
        return None
    for statement in _parts(code.root):
        for variable in _parts(statement) if statement.type in _VARIABLES else ():
            bound, value = (variable.child_by_field_name(each) for each in ("name", "value"))
            if bound is not None and value is not None and code.of(bound) == name:
                return _bare(value)
    return None


# --- the tree -------------------------------------------------------------------------------------


def _default(statement: Node) -> Node | None:
    """What stands behind `export default`."""
    if not any(child.type == "default" for child in statement.children):
        return None
    value = statement.child_by_field_name("value")
    return statement.child_by_field_name("declaration") if value is None else value


def _specifiers(statement: Node) -> Iterator[_Specifier]:
    """Those of `export { … }` that are values."""
    for clause in _parts(statement):
        for one in _parts(clause) if clause.type == "export_clause" else ():
            name, alias = (one.child_by_field_name(each) for each in ("name", "alias"))
            if name is not None and not any(child.type == "type" for child in one.children):
                yield _Specifier(name, alias or name)


def _is_of_another(statement: Node) -> bool:
    """`export { … } from "another"`."""
    return statement.child_by_field_name("source") is not None


def _name(code: Code, node: Node) -> str:
    text = code.of(node)
    return text[1:-1] if node.type == "string" else text


def _bare(node: Node) -> Node:
    """An expression without the parentheses and the types around it."""
    while node.type in _AROUND and (inner := _parts(node)):
        node = inner[0]
    return node


def _below(node: Node) -> Iterator[Node]:
    """The node and all in it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def _parts(node: Node) -> list[Node]:
    """What the node is made of: no punctuation and no comments."""
    return [child for child in node.named_children if not child.is_extra]
