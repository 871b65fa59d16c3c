"""Template text → syntax tree: the union grammar of language.md §11.1.

Names of functions are resolved here, so that a misspelt one is a syntax error with its nearest
name. A syntax error stands where the parser stopped; its message names where the construct began.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import lexer
from compozy_prefect.expressions.lexer import SYNTAX, Piece, Token
from compozy_prefect.expressions.nodes import (
    Arguments,
    Assign,
    Binary,
    Break,
    Call,
    Continue,
    Define,
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

UNKNOWN_FUNCTION = "CZ403"
# A level of parentheses costs seven Python frames here, and the interpreter gives a thousand.
MAX_DEPTH = 64
MAX_LINKS = 200  # operators and pipe stages in one expression

# Evaluated by ourselves, not called: they short-circuit.
LAZY = {"and", "or", "not"}
_CONSTANTS: dict[str, bool | None] = {
    "true": True,
    "false": False,
    "nil": None,
    "null": None,
    "none": None,
}
_COMPARE = {"==", "!=", "<", "<=", ">", ">="}
_BLOCKS = {"if", "range", "with", "define", "block"}
_KEYWORDS = _BLOCKS | {"else", "end", "break", "continue", "template"}

Known = Callable[[str], str | None]
"""None when the name is a function, else the sentence that says why not."""


def parse_template(template: str, known: Known) -> tuple[tuple[Node, ...], bool]:
    """The statements of a template, and whether any action has a trim marker.

    Raises TemplateError: CZ401 for syntax, CZ403 for an unknown function.
    """
    pieces = lexer.split(template)
    parser = _Statements(template, pieces, known)
    body = parser.body(None)
    return body, any(piece.trimmed for piece in pieces)


def parse_expression(expression: str, known: Known) -> Node:
    """A bare expression, in which variables stand without their leading dot (§3.6)."""
    tokens = lexer.tokens_of(expression)
    parser = _Expressions(expression, tokens, known, dotless=True)
    if parser.token.kind == "end":
        parser.fail("the expression is empty")
    node = parser.pipe()
    parser.expect_end("the expression")
    return node


class _Statements:
    """Pieces → statements. `opened` is the stack of unclosed blocks: keyword, start, head."""

    def __init__(self, template: str, pieces: list[Piece], known: Known) -> None:
        self._template = template
        self._pieces = pieces
        self._known = known
        self._at = 0
        self._loops = 0
        self._depth = 0

    def body(self, opener: Piece | None) -> tuple[Node, ...]:
        """Statements up to `else` or `end`, which is left for the caller to read."""
        out: list[Node] = []
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"blocks are nested deeper than {MAX_DEPTH}", self._pieces[self._at])
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            if piece.tokens is None:
                out.append(Text(piece.start, piece.end, piece.text))
                self._at += 1
                continue
            keyword = self._keyword(piece)
            if keyword in ("end", "else"):
                if opener is None:
                    raise self._error(f"`{keyword}` closes no block", piece)
                self._depth -= 1
                return tuple(out)
            self._at += 1
            node = self._statement(piece, keyword)
            if node is not None:
                out.append(node)
        if opener is not None:
            end = len(self._template)
            head = self._template[opener.start : opener.end]
            raise TemplateError(
                f"`{head}` has no `{{{{ end }}}}`",
                code=SYNTAX,
                template=self._template,
                start=end,
            )
        self._depth -= 1
        return tuple(out)

    def _keyword(self, piece: Piece) -> str | None:
        tokens = piece.tokens or ()
        if tokens and tokens[0].kind == "ident" and tokens[0].value in _KEYWORDS:
            return str(tokens[0].value)
        return None

    def _statement(self, piece: Piece, keyword: str | None) -> Node | None:
        assert piece.tokens is not None
        if not piece.tokens:
            return None  # a comment
        if keyword in ("if", "with", "range"):
            return self._block(piece, 1, str(keyword))
        if keyword in ("break", "continue"):
            self._parser(piece, 1).expect_end(f"`{keyword}`")
            if not self._loops:
                raise self._error(f"`{keyword}` stands outside of a `range`", piece)
            return (Break if keyword == "break" else Continue)(piece.start, piece.end)
        if keyword in ("define", "block", "template"):
            return self._named(piece, str(keyword))
        parser = self._parser(piece, 0)
        if parser.token.kind == "end":
            parser.fail("the action is empty")
        assigned = parser.assignment()
        if assigned is not None:
            name, declares, value = assigned
            parser.expect_end("the action")
            return Assign(piece.start, piece.end, name, value, declares)
        value = parser.pipe()
        parser.expect_end("the action")
        return Output(piece.start, piece.end, value)

    def _block(self, piece: Piece, skip: int, keyword: str) -> Node:
        parser = self._parser(piece, skip)
        if parser.token.kind == "end":
            parser.fail(f"`{keyword}` needs a value")
        names = parser.declared(2 if keyword == "range" else 1)
        value = parser.pipe()
        parser.expect_end(f"`{keyword}`")
        self._loops += keyword == "range"
        body = self.body(piece)
        self._loops -= keyword == "range"
        otherwise = self._else(piece, keyword)
        if keyword == "range":
            key = names[0] if len(names) == 2 else None
            item = names[-1] if names else None
            return Range(piece.start, piece.end, value, body, otherwise, key, item)
        kind = If if keyword == "if" else With
        return kind(piece.start, piece.end, value, body, otherwise, names[0] if names else None)

    def _else(self, opener: Piece, keyword: str) -> tuple[Node, ...]:
        """The rest of a block from its `else` or `end` on, with the `end` consumed."""
        piece = self._pieces[self._at]
        self._at += 1
        if self._keyword(piece) == "end":
            self._parser(piece, 1).expect_end("`end`")
            return ()
        assert piece.tokens is not None
        chained = piece.tokens[1]
        if chained.kind == "ident" and chained.value in ("if", "with"):
            if keyword == "range" or chained.value != keyword:
                raise self._error(f"`else {chained.value}` does not fit a `{keyword}`", piece)
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self._error(f"blocks are nested deeper than {MAX_DEPTH}", piece)
            rest = self._block(piece, 2, keyword)
            self._depth -= 1
            return (rest,)
        self._parser(piece, 1).expect_end("`else`")
        body = self.body(opener)
        closing = self._pieces[self._at]
        if self._keyword(closing) == "else":
            raise self._error(f"a second `else` in the same `{keyword}`", closing)
        self._at += 1
        self._parser(closing, 1).expect_end("`end`")
        return body

    def _named(self, piece: Piece, keyword: str) -> Node:
        parser = self._parser(piece, 1)
        quoted = parser.take()
        if quoted.kind != "string":
            parser.fail(f"`{keyword}` needs a name in quotes", quoted)
        name = str(quoted.value)
        value = None if parser.token.kind == "end" else parser.pipe()
        parser.expect_end(f"`{keyword}`")
        if keyword == "template":
            return Invoke(piece.start, piece.end, name, value)
        loops, self._loops = self._loops, 0
        body = self.body(piece)
        self._loops = loops
        if self._keyword(self._pieces[self._at]) == "else":
            raise self._error(f"`else` does not fit a `{keyword}`", self._pieces[self._at])
        self._at += 1
        if keyword == "define":
            return Define(piece.start, piece.end, name, body)
        # `block` defines the template and invokes it in place.
        self._pieces.insert(
            self._at, Piece("", _invocation(piece, name), piece.start, piece.end, False)
        )
        return Define(piece.start, piece.end, name, body)

    def _parser(self, piece: Piece, skip: int) -> _Expressions:
        assert piece.tokens is not None
        return _Expressions(self._template, piece.tokens, self._known, at=skip, depth=self._depth)

    def _error(self, message: str, piece: Piece) -> TemplateError:
        return TemplateError(
            message, code=SYNTAX, template=self._template, start=piece.start, end=piece.end
        )


def _invocation(piece: Piece, name: str) -> tuple[Token, ...]:
    """The tokens of `template "name" value` for a `block "name" value`."""
    assert piece.tokens is not None
    head = piece.tokens[0]
    return (Token("ident", "template", head.start, head.end, False), *piece.tokens[1:])


class _Expressions:
    """Tokens → an expression, by precedence: `|`, `||`, `&&`, comparison, `+ -`, `!`, call."""

    def __init__(
        self,
        template: str,
        tokens: tuple[Token, ...],
        known: Known,
        *,
        at: int = 0,
        depth: int = 0,
        dotless: bool = False,
    ) -> None:
        self._template = template
        self._tokens = tokens
        self._known = known
        self._at = at
        self._depth = depth
        self._links = 0
        self._dotless = dotless
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
        name = str(self.take().value)
        declares = self.take().value == ":="
        return name, declares, self.pipe()

    def declared(self, most: int) -> list[str]:
        """`$i, $e :=` in front of a block's value."""
        names: list[str] = []
        if self.token.kind != "var":
            return names
        one = self._peek(1)
        if one.kind == "op" and one.value == ":=":
            names = [str(self.take().value)]
        elif most == 2 and one.kind == "op" and one.value == ",":
            names.append(str(self.take().value))
            self.take()
            if self.token.kind != "var":
                self.fail("`range $index, $item := …` needs a second variable here")
            names.append(str(self.take().value))
            if not self._is(":="):
                self.fail("expected `:=` after the variables of `range`")
        if names:
            self.take()
        return names

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
        if token.kind != "ident" or token.value in _CONSTANTS:
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
        if self.token.kind == "op" and self.token.value in _COMPARE:
            op = str(self.take().value)
            right = self._add()
            node = Binary(node.start, right.end, op, node, right)
            if self.token.kind == "op" and self.token.value in _COMPARE:
                self.fail("comparisons do not chain", hint="join them with `&&`")
        return node

    def _add(self) -> Node:
        node = self._unary()
        while self._is("+", "-") and self.token.spaced:
            op = self._link()
            right = self._unary()
            node = Binary(node.start, right.end, op, node, right)
        return node

    def _unary(self) -> Node:
        if self._is("!"):
            self._descend()
            token = self.take()
            operand = self._unary()
            self._depth -= 1
            return Not(token.start, operand.end, operand)
        token = self.token
        if token.kind == "ident" and token.value not in _CONSTANTS and not self._is_variable():
            return self._call(None)
        node = self._operand()
        if self._starts_operand():
            head = self._template[node.start : node.end]
            self.fail(
                f"`{head}` is no function and takes no arguments",
                hint="put text in quotes, or join values with an operator",
            )
        return node

    def _is_variable(self) -> bool:
        """In an expression without dots, a name that is not called is a variable."""
        if not self._dotless:
            return False
        following = self._peek(1)
        called = following.kind == "op" and following.value == "(" and not following.spaced
        return not called and (
            self._known(str(self.token.value)) is not None or following.kind == "field"
        )

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
        if self._is("(") and not self.token.spaced:
            end = self._parenthesised(args, keywords)
            if (
                piped is None
                and (self.token.kind == "field" or self._is("["))
                and (not self.token.spaced)
            ):
                call = Call(token.start, end, name, tuple(args), token.end, tuple(keywords))
                return self._segments(call, call.start, end)
        while self._starts_operand():
            arg = self._operand()
            args.append(arg)
            end = arg.end
        start = token.start if piped is None else piped.start
        return Call(start, end, name, tuple(args), token.end, tuple(keywords), piped)

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
        if token.kind in ("dot", "field"):
            if token.kind == "dot":
                self.take()
            return self._segments(".", token.start, token.end)
        if token.kind == "var":
            self.take()
            return self._segments(f"${token.value}", token.start, token.end)
        if self._is("("):
            opened = self.take()
            inner = self.pipe()
            end = self._expect(")", opened).end
            following = self.token
            if (following.kind == "field" or self._is("[")) and not following.spaced:
                return self._segments(inner, opened.start, end)
            return inner
        if self._is("["):
            return self._list()
        if token.kind == "end":
            self.fail("a value is missing here")
        seen = self._template[token.start : token.end]
        self.fail(f"expected a value and found `{seen}`")

    def _name_operand(self) -> Node:
        token = self.token
        name = str(token.value)
        if name in _CONSTANTS:
            self.take()
            return Literal(token.start, token.end, _CONSTANTS[name])
        if self._is_variable():
            self.take()
            head = Key(token.start, token.end, name)
            return self._segments(".", token.start, token.end, head)
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
        if (self.token.kind == "field" or self._is("[")) and not self.token.spaced:
            return self._segments(call, token.start, end)
        return call

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

    def _segments(self, base: str | Node, start: int, end: int, head: Key | None = None) -> Node:
        """The segments that follow `base` without a space."""
        out: list[Key | Subscript | Arguments] = [head] if head else []
        first = base == "." and head is None and self.token.kind == "field"
        while first or not self.token.spaced:
            token = self.token
            if token.kind == "field":
                self.take()
                out.append(Key(token.start, token.end, token.value))  # type: ignore[arg-type]
            elif self._is("[") and (out or base != "." or token.start == end):
                opened = self.take()
                index = self.pipe()
                end = self._expect("]", opened).end
                out.append(Subscript(opened.start, end, index))
                first = False
                continue
            elif self._is("(") and out:
                args: list[Node] = []
                opened = self.token
                end = self._parenthesised(args, [])
                out.append(Arguments(opened.start, end, tuple(args)))
                first = False
                continue
            else:
                break
            end = token.end
            first = False
        return Path(start, end, base, tuple(out))
