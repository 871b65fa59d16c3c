"""Template text → syntax tree: the union grammar of language.md §11.1.

A syntax error stands where the parser stopped; its message names where the construct began.
"""

from __future__ import annotations

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import lexer
from compozy_prefect.expressions.lexer import SYNTAX, Piece, Token
from compozy_prefect.expressions.nodes import (
    Assign,
    Break,
    Continue,
    Define,
    If,
    Invoke,
    Node,
    Output,
    Range,
    Text,
    With,
)
from compozy_prefect.expressions.syntax import MAX_DEPTH, Expressions, Known

_BLOCKS = {"if", "range", "with", "define", "block"}
_KEYWORDS = _BLOCKS | {"else", "end", "break", "continue", "template"}


def parse_template(template: str, known: Known) -> tuple[tuple[Node, ...], bool]:
    """The statements of a template, and whether any action has a trim marker.

    Raises TemplateError: CZ401 for syntax, CZ403 for an unknown function.
    """
    pieces = lexer.split(template)
    parser = _Statements(template, pieces, known)
    body = parser.body(None)
    return body, any(piece.trimmed for piece in pieces)


class _Statements:
    """Pieces → statements, by recursive descent: `body` and `_block` call each other."""

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
            assert opener is not None
            raise self._error(f"blocks are nested deeper than {MAX_DEPTH}", opener)
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
            end = len(self._template.rstrip())
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
        bare = keyword == "define" or parser.token.kind == "end"
        value = None if bare else parser.pipe()
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

    def _parser(self, piece: Piece, skip: int) -> Expressions:
        assert piece.tokens is not None
        return Expressions(self._template, piece.tokens, self._known, at=skip, depth=self._depth)

    def _error(self, message: str, piece: Piece) -> TemplateError:
        return TemplateError(
            message, code=SYNTAX, template=self._template, start=piece.start, end=piece.end
        )


def _invocation(piece: Piece, name: str) -> tuple[Token, ...]:
    """The tokens of `template "name" value` for a `block "name" value`."""
    assert piece.tokens is not None
    head = piece.tokens[0]
    return (Token("ident", "template", head.start, head.end, False), *piece.tokens[1:])
