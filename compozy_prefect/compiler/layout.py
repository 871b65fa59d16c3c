"""Python source of an expression in, the same over several lines out, as `ruff format` has it.

What does not fit a line is taken apart one element a line with a comma after the last, which the
formatter then keeps at any line length.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from compozy_prefect.compiler.types import Parameter, literal

WIDTH = 88  # the formatter's default: flows.py lands in projects that set no length of their own


def expression(source: str, *, indent: int = 0, before: int = 0, after: int = 0) -> str:
    """An expression laid out.

    `indent` is the indentation of its line in columns; `before` and `after` are the columns taken
    on that line in front of it, without the indentation, and behind it.
    """
    return _lay(ast.parse(source, mode="eval").body, indent, before, after)


def parameters(items: Sequence[Parameter], *, before: int, after: int) -> str:
    """The parenthesised parameters of a function, from the opening bracket to the closing one."""
    flat = "(" + ", ".join(_flat_parameter(item) for item in items) + ")"
    if _fits(flat, before + after):
        return flat
    return "(\n" + "".join(f"    {_parameter(item)},\n" for item in items) + ")"


def docstring(text: str, indent: int) -> str:
    """A docstring, indented, that evaluates to `text` once Python has cleaned it."""
    pad = " " * indent
    lines = [_escape(line) for line in text.split("\n")]
    if len(lines) == 1:
        return f'{pad}"""{lines[0]}"""'
    body = "\n".join(pad + line if line else "" for line in lines).lstrip()
    return f'{pad}"""{body}\n{pad}"""'


def _escape(line: str) -> str:
    """The inside of a string between double quotes, made of the `repr` of the line."""
    # The two quotes at the end make `repr` choose single quotes and escape every one of them.
    inner = repr(line + "'\"")[1:-4]
    # Only a quote before another one, or before the closing ones, needs its backslash.
    return re.sub(r'"(?="|$)', r"\"", inner.replace("\\'", "'"))


def _flat_parameter(item: Parameter) -> str:
    text = f"{item.name}: {_flat(ast.parse(item.source, mode='eval').body)}"
    return text if item.required else f"{text} = {literal(item.default)}"


def _parameter(item: Parameter) -> str:
    name = f"{item.name}: "
    if item.required:
        return name + expression(item.source, indent=4, before=_width(name), after=1)
    default = ast.parse(literal(item.default), mode="eval").body
    # A default that can be taken apart leaves only its opening bracket on the line of the type.
    after = 4 if _parts(default) else 4 + _width(_flat(default))
    text = name + expression(item.source, indent=4, before=_width(name), after=after) + " = "
    last = text.rsplit("\n", 1)[-1]
    return text + _lay(default, 4, _width(last.removeprefix("    ")), 1)


def _lay(node: ast.expr, indent: int, before: int, after: int) -> str:
    flat = _flat(node)
    if _fits(flat, indent + before + after):
        return flat
    parts = _parts(node)
    if parts is None:
        return flat
    opening, items, closing, comma = parts
    pad = " " * (indent + 4)
    body = [f"{pad}{key}{_lay(item, indent + 4, _width(key), 1)}" for key, item in items]
    return f"{opening}\n" + ",\n".join(body) + f"{comma}\n{' ' * indent}{closing}"


def _parts(node: ast.expr) -> tuple[str, list[tuple[str, ast.expr]], str, str] | None:
    """The brackets and elements of what can be taken apart, and the comma after the last one."""
    match node:
        case ast.List(elts=[_, *_]):
            return "[", [("", item) for item in node.elts], "]", ","
        case ast.Dict(keys=[_, *_]):
            pairs = zip(node.keys, node.values, strict=True)
            return "{", [(f"{_flat(k)}: ", v) for k, v in pairs if k is not None], "}", ","
        case ast.Call():
            named = [(f"{item.arg}=" if item.arg else "**", item.value) for item in node.keywords]
            return f"{_flat(node.func)}(", [*(("", item) for item in node.args), *named], ")", ","
        case ast.Subscript(slice=ast.Tuple(elts=items)):
            return f"{_flat(node.value)}[", [("", item) for item in items], "]", ","
        case ast.Subscript():  # a comma would make the single element a tuple
            return f"{_flat(node.value)}[", [("", node.slice)], "]", ""
        case ast.BinOp(op=ast.BitOr()):
            return "Union[", [("", item) for item in _alternatives(node)], "]", ","
    return None


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


def _flat(node: ast.expr) -> str:
    """The expression on one line, its strings quoted as `literal` does."""
    match node:
        case ast.Constant():
            return literal(node.value)
        case ast.UnaryOp(op=ast.USub()):
            return f"-{_flat(node.operand)}"
        case ast.BinOp():
            return " | ".join(map(_flat, _alternatives(node)))
    parts = _parts(node) or _empty(node)
    if parts is None:
        return ast.unparse(node)  # a name
    opening, items, closing, _ = parts
    return opening + ", ".join(key + _flat(item) for key, item in items) + closing


def _empty(node: ast.expr) -> tuple[str, list[tuple[str, ast.expr]], str, str] | None:
    brackets = {ast.List: "[]", ast.Dict: "{}"}.get(type(node))
    return (brackets[0], [], brackets[1], "") if brackets else None


def _fits(text: str, beside: int) -> bool:
    return _width(text) + beside <= WIDTH


def _width(text: str) -> int:
    """Columns, never too few: what is not ASCII counts as wide."""
    return sum(1 if char.isascii() else 2 for char in text)
