"""Tokens → an expression: from `pipe` down in the union grammar of language.md §11.1.

Names of functions are resolved here, so that a misspelt one is a syntax error with its nearest
name. Conditions without braces extend this grammar (conditions.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions.lexer import SYNTAX, Token
from compozy_prefect.expressions.nodes import (
    Arguments,
    Binary,
    Call,
    Key,
    ListOf,
    Literal,
    Node,
    Not,
    Path,
    Subscript,
)

UNKNOWN_FUNCTION = "CZ403"
# A level of parentheses costs seven Python frames here, and the interpreter gives a thousand.
MAX_DEPTH = 64
MAX_LINKS = 200  # operators and pipe stages in one expression

# Evaluated by ourselves, not called: they short-circuit.
LAZY = {"and", "or", "not"}
CONSTANTS: dict[str, bool | None] = {
    "true": True,
    "false": False,
    "nil": None,
    "null": None,
    "none": None,
}
COMPARE = {"==", "!=", "<", "<=", ">", ">="}

Known = Callable[[str], str | None]
"""None when the name is a function, else the sentence that says why not."""

Segment = Key | Subscript | Arguments


class Expressions:
    """Tokens → an expression, by precedence: `|`, `||`, `&&`, comparison, `+ -`, `!`, call."""

    def __init__(
        self,
        template: str,
        tokens: tuple[Token, ...],
        known: Known,
        *,
        at: int = 0,
        depth: int = 0,
    ) -> None:
        self._template = template
        self._tokens = tokens
        self._known = known
        self._at = at
        self._depth = depth
        self._links = 0
        self.token = tokens[at]

    def take(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._at += 1
            self.token = self._tokens[self._at]
        return token

    def fail(self, message: str, token: Token | None = None, hint: str | None = None) -> NoReturn:
        token = token or self.token
        raise TemplateError(
            message,
            code=SYNTAX,
            template=self._template,
            start=token.start,
            end=token.end,
            hint=hint,
        )

    def expect_end(self, what: str) -> None:
        if self.token.kind != "end":
            seen = self._template[self.token.start : self.token.end]
            hint = None
            if seen == "=":
                hint = "compare with `==`; `=` only changes a `$variable`"
            elif seen == "?":
                hint = "write `ternary A B condition`"
            self.fail(f"unexpected `{seen}` in {what}", hint=hint)

    def _peek(self, ahead: int) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _is(self, *ops: str) -> bool:
        return self.token.kind == "op" and self.token.value in ops

    def _expect(self, op: str, opened: Token) -> Token:
        if not self._is(op):
            head = self._template[opened.start : opened.end]
            at = opened.start + 1
            seen = self._template[self.token.start : self.token.end] or "the end"
            self.fail(
                f"expected `{op}` and found `{seen}`; the `{head}` at character {at} is still open"
            )
        return self.take()

    def assignment(self) -> tuple[str, bool, Node] | None:
        following = self._peek(1)
        if self.token.kind != "var" or following.kind != "op" or following.value not in (":=", "="):
            return None
        name = self._variable()
        declares = self.take().value == ":="
        return name, declares, self.pipe()

    def declared(self, most: int) -> list[str]:
        """`$i, $e :=` in front of a block's value."""
        names: list[str] = []
        if self.token.kind != "var":
            return names
        one = self._peek(1)
        if one.kind == "op" and one.value == ":=":
            names = [self._variable()]
        elif most == 2 and one.kind == "op" and one.value == ",":
            names.append(self._variable())
            self.take()
            if self.token.kind != "var":
                self.fail("`range $index, $item := …` needs a second variable here")
            names.append(self._variable())
            if not self._is(":="):
                self.fail("expected `:=` after the variables of `range`")
        if names:
            self.take()
        return names

    def _variable(self) -> str:
        """The name of a variable that is given a value."""
        token = self.take()
        if not token.value:
            self.fail("`$` is the whole context and cannot be changed", token)
        return str(token.value)

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self.fail(f"the expression is nested deeper than {MAX_DEPTH}")

    def _link(self) -> str:
        """Takes an operator or a pipe; a chain of them becomes as deep a tree."""
        self._links += 1
        if self._links > MAX_LINKS:
            self.fail(f"the expression has more than {MAX_LINKS} operators")
        return str(self.take().value)

    def pipe(self) -> Node:
        self._descend()
        node = self._or()
        while self._is("|"):
            self._link()
            node = self._stage(node)
        self._depth -= 1
        return node

    def _stage(self, piped: Node) -> Node:
        token = self.token
        if token.kind != "ident" or token.value in CONSTANTS:
            seen = self._template[token.start : token.end] or "the end"
            self.fail(f"expected a function after `|` and found `{seen}`")
        return self._call(piped)

    def _or(self) -> Node:
        node = self._and()
        while self._is("||"):
            self._link()
            right = self._and()
            node = Binary(node.start, right.end, "||", node, right)
        return node

    def _and(self) -> Node:
        node = self._compare()
        while self._is("&&"):
            self._link()
            right = self._compare()
            node = Binary(node.start, right.end, "&&", node, right)
        return node

    def _compare(self) -> Node:
        node = self._add()
        if self.token.kind == "op" and self.token.value in COMPARE:
            op = str(self.take().value)
            right = self._add()
            node = Binary(node.start, right.end, op, node, right)
            if self.token.kind == "op" and self.token.value in COMPARE:
                self.fail("comparisons do not chain", hint="join them with `&&`")
        return node

    def _add(self) -> Node:
        node = self._multiply()
        while self._is("+", "-") and self.token.spaced:
            op = self._link()
            right = self._multiply()
            node = Binary(node.start, right.end, op, node, right)
        return node

    def _multiply(self) -> Node:
        """What a sum is made of; conditions have `* / %` here."""
        return self._unary()

    def _unary(self) -> Node:
        if self._is("!"):
            self._descend()
            token = self.take()
            operand = self._unary()
            self._depth -= 1
            return Not(token.start, operand.end, operand)
        token = self.token
        if token.kind == "ident" and token.value not in CONSTANTS and not self._is_variable():
            return self._call(None)
        node = self._operand()
        if self.token.kind == "dot" and not self.token.spaced:
            self.fail("a name is missing after the dot")
        if self._starts_operand():
            head = self._template[node.start : node.end]
            self.fail(
                f"`{head}` is no function and takes no arguments",
                hint="put text in quotes, or join values with an operator",
            )
        return node

    def _is_variable(self) -> bool:
        """Whether a bare name stands for a variable; in templates those begin with a dot."""
        return False

    def _call(self, piped: Node | None) -> Node:
        token = self.take()
        name = str(token.value)
        if name not in LAZY:
            refusal = self._known(name)
            if refusal is not None:
                raise self._unknown(token, name, refusal)
        args: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        end = token.end
        parenthesised = self._is("(") and not self.token.spaced
        if parenthesised:
            end = self._parenthesised(args, keywords)
            if piped is None and self._continues():
                call = Call(token.start, end, name, tuple(args), token.end, tuple(keywords))
                return self._segments(call, call.start, end)
        while self._starts_operand():
            arg = self._operand()
            args.append(arg)
            end = arg.end
        start = token.start if piped is None else piped.start
        return Call(start, end, name, tuple(args), token.end, tuple(keywords), piped, parenthesised)

    def _continues(self) -> bool:
        """Whether a segment of a path follows without a space."""
        return (self.token.kind == "field" or self._is("[")) and not self.token.spaced

    def _parenthesised(self, args: list[Node], keywords: list[tuple[str, Node]]) -> int:
        opened = self.take()
        while not self._is(")"):
            following = self._peek(1)
            if self.token.kind == "ident" and following.kind == "op" and following.value == "=":
                key = str(self.take().value)
                self.take()
                keywords.append((key, self.pipe()))
            else:
                args.append(self.pipe())
            if not self._is(","):
                break
            self.take()
        return self._expect(")", opened).end

    def _starts_operand(self) -> bool:
        token = self.token
        if token.kind in ("field", "dot", "var", "string", "number"):
            return True
        if token.kind == "ident":
            return True
        return token.kind == "op" and token.value in ("(", "[")

    def _operand(self) -> Node:
        token = self.token
        if token.kind in ("string", "number"):
            self.take()
            return Literal(token.start, token.end, token.value)  # type: ignore[arg-type]
        if token.kind == "ident":
            return self._name_operand()
        if token.kind == "field":
            return self._segments(".", token.start, token.end, self._key())
        if token.kind == "dot":
            self.take()
            if self.token.kind in ("dot", "field") and not self.token.spaced:
                self.fail("a name is missing between two dots")
            return self._segments(".", token.start, token.end)
        if token.kind == "var":
            self.take()
            return self._segments(f"${token.value}", token.start, token.end)
        if self._is("("):
            opened = self.take()
            inner = self.pipe()
            end = self._expect(")", opened).end
            return self._segments(inner, opened.start, end) if self._continues() else inner
        if self._is("["):
            return self._list()
        if token.kind == "end":
            self.fail("a value is missing here")
        seen = self._template[token.start : token.end]
        self.fail(f"expected a value and found `{seen}`")

    def _name_operand(self) -> Node:
        token = self.token
        name = str(token.value)
        if name in CONSTANTS:
            self.take()
            return Literal(token.start, token.end, CONSTANTS[name])
        refusal = self._known(name)
        if refusal is not None and name not in LAZY:
            raise self._unknown(token, name, refusal)
        self.take()
        args: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        end = token.end
        if self._is("(") and not self.token.spaced:
            end = self._parenthesised(args, keywords)
        call = Call(token.start, end, name, tuple(args), token.end, tuple(keywords))
        return self._segments(call, token.start, end) if self._continues() else call

    def _unknown(self, token: Token, name: str, refusal: str) -> TemplateError:
        message, _, hint = refusal.partition("\n")
        return TemplateError(
            message,
            code=UNKNOWN_FUNCTION,
            template=self._template,
            start=token.start,
            end=token.end,
            hint=hint or None,
        )

    def _list(self) -> Node:
        opened = self.take()
        items: list[Node] = []
        while not self._is("]"):
            items.append(self.pipe())
            if not self._is(","):
                break
            self.take()
        end = self._expect("]", opened).end
        return ListOf(opened.start, end, tuple(items))

    def _segments(self, base: str | Node, start: int, end: int, *first: Segment) -> Node:
        """The segments that follow `base` without a space; `first` are those already read."""
        out: list[Segment] = list(first)
        while not self.token.spaced:
            token = self.token
            if token.kind == "field":
                out.append(self._key())
                end = token.end
            elif self._is("["):
                self.take()
                index = self.pipe()
                end = self._expect("]", token).end
                out.append(Subscript(token.start, end, index))
            elif self._is("(") and out:
                called = self._method(base, start, out)
                if called is not None:
                    base, out, end = called, [], called.end
                    continue
                args: list[Node] = []
                end = self._parenthesised(args, [])
                out.append(Arguments(token.start, end, tuple(args)))
            else:
                break
        return base if isinstance(base, Node) and not out else Path(start, end, base, tuple(out))

    def _method(self, base: str | Node, start: int, segments: list[Segment]) -> Node | None:
        """The call that `.name(` begins, if it has a meaning apart from the tools'."""
        return None

    def _key(self) -> Key:
        token = self.take()
        return Key(token.start, token.end, token.value)  # type: ignore[arg-type]
