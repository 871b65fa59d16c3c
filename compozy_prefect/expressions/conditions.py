"""A condition without braces → syntax tree: CEL as far as workflows use it (language.md §3.6).

It is the grammar of templates, in which variables stand without their dot, with what CEL has
beyond it: `? :`, `in`, `* / %`, `has(path)`, `size(x)`, methods of text, and the macros `all`,
`exists`, `exists_one`, `filter` and `map` with a variable of their own.
"""

from __future__ import annotations

from compozy_prefect.expressions import lexer
from compozy_prefect.expressions.lexer import Token
from compozy_prefect.expressions.nodes import (
    Binary,
    Call,
    Choice,
    Each,
    Key,
    Literal,
    Node,
    Path,
)
from compozy_prefect.expressions.syntax import CONSTANTS, Expressions, Known, Segment

MACROS = {"all", "exists", "exists_one", "filter", "map"}
# Method of CEL → function whose last argument is the text.
_METHODS = {
    "startsWith": "hasPrefix",
    "endsWith": "hasSuffix",
    "contains": "contains",
    "matches": "regexMatch",
    "size": "length",
    "lowerAscii": "lower",
    "upperAscii": "upper",
    "trim": "trim",
}
_FUNCTIONS = {"size": "length", "string": "toString", "double": "float64"}
# Variables whose names are functions too; `index .x 0` remains a call.
_SHADOWED = {"index", "env"}


def parse_expression(expression: str, known: Known) -> Node:
    """The expression of a condition. Raises TemplateError: CZ401, CZ403."""
    parser = _Conditions(expression, _renamed(lexer.tokens_of(expression)), known)
    if parser.token.kind == "end":
        parser.fail("the expression is empty")
    node = parser.pipe()
    parser.expect_end("the expression")
    return node


def _renamed(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """CEL's functions under the names that they have here."""
    out = list(tokens)
    for i, token in enumerate(tokens[:-1]):
        if token.kind == "ident" and token.value in _FUNCTIONS and _opens(tokens[i + 1]):
            name = _FUNCTIONS[str(token.value)]
            out[i] = Token("ident", name, token.start, token.end, token.spaced)
    return tuple(out)


def _opens(token: Token) -> bool:
    return token.kind == "op" and token.value == "(" and not token.spaced


class _Conditions(Expressions):
    def __init__(self, template: str, tokens: tuple[Token, ...], known: Known) -> None:
        super().__init__(template, tokens, known)
        self._bound: list[str] = []  # variables of the macros around

    def pipe(self) -> Node:
        condition = super().pipe()
        if not self._is("?"):
            return condition
        opened = self.take()
        yes = self.pipe()
        self._expect(":", opened)
        self._descend()
        no = self.pipe()
        self._depth -= 1
        return Choice(condition.start, no.end, condition, yes, no)

    def _compare(self) -> Node:
        node = super()._compare()
        if self.token.kind == "ident" and self.token.value == "in":
            name_end = self.token.end
            self._link()
            right = self._add()
            node = Call(node.start, right.end, "in", (node, right), name_end)
        return node

    def _multiply(self) -> Node:
        node = self._unary()
        while self._is("*", "/", "%"):
            op = self._link()
            right = self._unary()
            node = Binary(node.start, right.end, op, node, right)
        return node

    def _starts_operand(self) -> bool:
        is_in = self.token.kind == "ident" and self.token.value == "in"
        return not is_in and super()._starts_operand()

    def _is_variable(self) -> bool:
        """A name that is not called is a variable; a function's name too where a path follows."""
        name, following = str(self.token.value), self._peek(1)
        if name in self._bound:
            return True
        if _opens(following) or name in CONSTANTS:
            return False
        if self._known(name) is not None:
            return True
        joined = not following.spaced
        if joined and (following.kind == "field" or following.value == "["):
            return True
        alone = following.kind in ("op", "end") and following.value not in ("(", "[")
        return name in _SHADOWED and alone

    def _name_operand(self) -> Node:
        if not self._is_variable():
            return super()._name_operand()
        token = self.take()
        name = str(token.value)
        if name in self._bound:
            return self._segments(f"${name}", token.start, token.end)
        return self._segments(".", token.start, token.end, Key(token.start, token.end, name))

    def _call(self, piped: Node | None) -> Node:
        node = super()._call(piped)
        if isinstance(node, Call) and node.name == "has" and piped is None and len(node.args) == 1:
            return Binary(
                node.start, node.end, "!=", node.args[0], Literal(node.end, node.end, None)
            )
        return node

    def _method(self, base: str | Node, start: int, segments: list[Segment]) -> Node | None:
        name = segments[-1]
        before = tuple(segments[:-1])
        if not isinstance(name, Key) or not (before or base != "."):
            return None
        end = before[-1].end if before else name.start
        subject = Path(start, end, base, before) if before or isinstance(base, str) else base
        one, two = self._peek(1), self._peek(2)
        if name.name in MACROS and one.kind == "ident" and two.kind == "op" and two.value == ",":
            return self._macro(str(name.name), subject)
        if name.name not in _METHODS:
            return None
        args: list[Node] = []
        end = self._parenthesised(args, [])
        return Call(start, end, _METHODS[str(name.name)], tuple(args), name.end, (), subject)

    def _macro(self, kind: str, items: Node) -> Node:
        opened = self.take()
        variable = str(self.take().value)
        self.take()
        self._bound.append(variable)
        body = self.pipe()
        self._bound.pop()
        end = self._expect(")", opened).end
        return Each(items.start, end, kind, items, variable, body)
