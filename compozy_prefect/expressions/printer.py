"""Syntax tree → the canonical text of a template or a condition (language.md §11.1, §3.6).

Two texts that print alike do the same: they differ in spaces, quotes, comments, redundant
parentheses or in one of two ways to write a call. Text outside of the actions, and what trim
markers make of it, is meaning and stays as it is. What is printed parses to the tree that it came
from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from compozy_prefect.expressions.nodes import (
    Arguments,
    Assign,
    Binary,
    Break,
    Call,
    Choice,
    Continue,
    Define,
    Each,
    If,
    Invoke,
    Key,
    ListOf,
    Literal,
    Node,
    Not,
    Output,
    Path,
    Range,
    Subscript,
    Text,
    With,
)
from compozy_prefect.expressions.template import Template

# How close an expression binds; where its place asks for more, it is put in parentheses.
_ANY, _PIPE, _OR, _AND, _COMPARE, _ADD, _MULTIPLY, _NOT, _CALL, _OPERAND = range(10)
_BINARY = {
    "||": _OR,
    "&&": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _COMPARE),
    **dict.fromkeys("+-", _ADD),
    **dict.fromkeys("*/%", _MULTIPLY),
}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# At the very start, and behind a space of its own, this takes nothing away.
_TRIMMING = "{{- /**/}}"
# A brace that would become part of those behind it. It came from a template with a trim marker.
_BRACE, _APART = re.compile(r"\{(?=\{|\Z)"), f"{{ {_TRIMMING}"


def printed(template: Template) -> str:
    """The canonical text of a template, or of a condition without braces."""
    if template.is_bare:
        (action,) = template.body
        assert isinstance(action, Output)
        return _Printer(is_bare=True).expression(action.value)
    if template.static:
        return template.text_of
    text = "".join(_Printer().statements(template.body))
    return _TRIMMING + text if template.is_stripped else text


class _Printer:
    """`is_bare`: a condition, where a name that is not called would be a variable."""

    def __init__(self, *, is_bare: bool = False) -> None:
        self._is_bare = is_bare

    # Statements

    def statements(self, nodes: Sequence[Node]) -> Iterator[str]:
        for is_text, run in groupby(nodes, lambda node: isinstance(node, Text)):
            if is_text:
                # Two pieces of text stood on both sides of a comment.
                text = "".join(node.value for node in run if isinstance(node, Text))
                yield _BRACE.sub(_APART, text)
            else:
                for node in run:
                    yield from self._statement(node)

    def _statement(self, node: Node) -> Iterator[str]:
        if isinstance(node, Output):
            yield f"{{{{ {self.expression(node.value)} }}}}"
        elif isinstance(node, Assign):
            sign = ":=" if node.declares else "="
            yield f"{{{{ ${node.name} {sign} {self.expression(node.value)} }}}}"
        elif isinstance(node, (If, With, Range)):
            yield from self._block(node, "")
        elif isinstance(node, Define):
            yield f"{{{{ define {_quoted(node.name)} }}}}"
            yield from self.statements(node.body)
            yield "{{ end }}"
        elif isinstance(node, Invoke):
            value = f" {self.expression(node.value)}" if node.value is not None else ""
            yield f"{{{{ template {_quoted(node.name)}{value} }}}}"
        else:
            assert isinstance(node, (Break, Continue))
            yield "{{ break }}" if isinstance(node, Break) else "{{ continue }}"

    def _block(self, node: If | With | Range, before: str) -> Iterator[str]:
        if isinstance(node, Range):
            keyword, value = "range", node.items
            names = [name for name in (node.key_variable, node.value_variable) if name is not None]
        else:
            keyword = "if" if isinstance(node, If) else "with"
            value = node.condition if isinstance(node, If) else node.value
            names = [node.variable] if node.variable is not None else []
        declared = f"{', '.join(f'${name}' for name in names)} := " if names else ""
        yield f"{{{{ {before}{keyword} {declared}{self.expression(value)} }}}}"
        yield from self.statements(node.body)
        rest = node.otherwise
        if len(rest) == 1 and not isinstance(node, Range) and type(rest[0]) is type(node):
            yield from self._block(rest[0], "else ")
            return
        if rest:
            yield "{{ else }}"
            yield from self.statements(rest)
        yield "{{ end }}"

    # Expressions

    def expression(self, node: Node, level: int = _ANY) -> str:
        text, own = self._bound(node)
        return text if own >= level else f"({text})"

    def _bound(self, node: Node) -> tuple[str, int]:
        """The text, and how close it binds."""
        if isinstance(node, Literal):
            return _literal(node.value), _OPERAND
        if isinstance(node, Path):
            return self._path(node), _OPERAND
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Binary):
            own = _BINARY[node.op]
            left = self.expression(node.left, own + (own == _COMPARE))
            right = self.expression(node.right, own + 1)
            return f"{left} {node.op} {right}", own
        if isinstance(node, Not):
            return f"!{self.expression(node.operand, _NOT)}", _NOT
        if isinstance(node, Choice):
            condition = self.expression(node.condition, _PIPE)
            yes, no = self.expression(node.yes, _PIPE), self.expression(node.no)
            return f"{condition} ? {yes} : {no}", _ANY
        if isinstance(node, Each):
            body = self.expression(node.body)
            return f"{self._base(node.items)}.{node.kind}({node.variable}, {body})", _OPERAND
        assert isinstance(node, ListOf)
        return f"[{self._several(node.items)}]", _OPERAND

    def _several(self, nodes: Sequence[Node]) -> str:
        return ", ".join(self.expression(node) for node in nodes)

    def _call(self, node: Call) -> tuple[str, int]:
        keywords = [f"{key}={self.expression(value)}" for key, value in node.keywords]
        given = ", ".join((*map(self.expression, node.args), *keywords))
        in_parentheses = f"{node.name}({given})"
        by_spaces = " ".join((node.name, *(self.expression(a, _OPERAND) for a in node.args)))
        if node.piped is not None:
            call = in_parentheses if node.parenthesised or keywords else by_spaces
            return f"{self.expression(node.piped, _PIPE)} | {call}", _PIPE
        if self._is_bare or keywords:
            return in_parentheses, _OPERAND
        return by_spaces, _CALL if node.args else _OPERAND

    def _path(self, node: Path) -> str:
        if isinstance(node.base, Node):
            head = f"({self.expression(node.base)})"
        else:
            begins = node.segments and isinstance(node.segments[0], Key)
            head = "" if node.base == "." and begins else node.base
        return head + "".join(map(self._segment, node.segments))

    def _segment(self, segment: Key | Subscript | Arguments) -> str:
        if isinstance(segment, Key):
            return f".{segment.name}"
        if isinstance(segment, Subscript):
            return f"[{self.expression(segment.index)}]"
        return f"({self._several(segment.items)})"

    def _base(self, node: Node) -> str:
        """What a method is called on."""
        text = self.expression(node)
        is_path = isinstance(node, Path) and isinstance(node.base, str) and node.segments
        return text if is_path else f"({text})"


def _literal(value: bool | int | float | str | None) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char, char) for char in text) + '"'
