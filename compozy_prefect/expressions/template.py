"""Templates as values: parsed once, checked through their reads, evaluated many times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from compozy_prefect.expressions.evaluate import Compiler, Expression, Frame, Statement
from compozy_prefect.expressions.functions import FUNCTIONS, REFUSED, Environment, to_text
from compozy_prefect.expressions.nodes import (
    Assign,
    Call,
    Define,
    If,
    Node,
    Output,
    Range,
    Text,
    With,
)
from compozy_prefect.expressions.parser import LAZY, parse_expression, parse_template
from compozy_prefect.expressions.reads import Read, Use, reads_of

_GUARDS = frozenset(name for name, function in FUNCTIONS.items() if function.guard) | LAZY


class Template:
    """A parsed template. Make one with `parse` or `parse_condition`, which cache.

    `static`: it has no action at all, and is its own value.
    """

    def __init__(self, text: str, body: tuple[Node, ...], trimmed: bool) -> None:
        self.text_of = text
        self.body = body
        self.static = all(isinstance(node, Text) for node in body) and "{{" not in text
        self._trimmed = trimmed
        self.reads: tuple[Read, ...]
        self.uses: tuple[Use, ...]
        self.reads, self.uses = reads_of(body, _GUARDS)

    @cached_property
    def whole(self) -> Node | None:
        """The expression of a template that is exactly one action (white space aside), or None."""
        nodes = [n for n in self.body if not (isinstance(n, Text) and not n.value.strip())]
        return nodes[0].value if len(nodes) == 1 and isinstance(nodes[0], Output) else None

    @cached_property
    def _compiled(self) -> tuple[Statement | None, Expression | None, int]:
        compiler = Compiler(self.text_of)
        if self.whole is not None:
            expression = compiler.expression(self.whole)
            return None, expression, compiler.slots
        body = compiler.body(self.body)
        return body, None, compiler.slots

    def compile(self) -> None:
        """Finds what the parser cannot see: counts of arguments, undeclared `$variables`.

        Raises TemplateError. Evaluation calls it by itself.
        """
        self._compiled  # noqa: B018

    def native(self, context: Mapping[str, Any], environment: Environment | None = None) -> Any:
        """The value of a template of one action with its type, and text otherwise (§11.4)."""
        if self.static:
            return self.text_of
        _, expression, slots = self._compiled
        if expression is None:
            text = self.text(context, environment)
            return text.strip() if self._trimmed and self._only_blocks else text
        value = expression(Frame(context, environment or Environment(), slots))
        return to_text(value) if isinstance(value, datetime) else value

    def data(self, context: Mapping[str, Any], environment: Environment | None = None) -> Any:
        """`native`, where rendered text that is a JSON object or array becomes that value.

        For `with`, `outputs`, `payload` and `items` (§11.4, §13 no. 33). Text that a path leads
        to stays text.
        """
        value = self.native(context, environment)
        if self.static or not isinstance(value, str) or not self._may_be_json:
            return value
        text = value.strip()
        if text[:1] in ("{", "["):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return value
        return value

    @cached_property
    def _may_be_json(self) -> bool:
        if self.whole is None:
            return True
        return isinstance(self.whole, Call) and (
            self.whole.name in FUNCTIONS and FUNCTIONS[self.whole.name].json_text
        )

    @cached_property
    def _only_blocks(self) -> bool:
        nodes = [n for n in self.body if not (isinstance(n, Text) and not n.value.strip())]
        return all(isinstance(n, (If, With, Range, Assign, Define)) for n in nodes)

    def text(self, context: Mapping[str, Any], environment: Environment | None = None) -> str:
        """Always text: for prompts, headers and keys."""
        if self.static:
            return self.text_of
        body, expression, slots = self._compiled
        frame = Frame(context, environment or Environment(), slots)
        if body is None:
            assert expression is not None
            body = Compiler(self.text_of).body(self.body)
            self.__dict__["_compiled"] = (body, expression, slots)
        out: list[str] = []
        body(frame, out)
        return "".join(out)


@lru_cache(maxsize=8192)
def parse(text: str) -> Template:
    """The template that `text` is.

    Raises TemplateError with offsets: CZ401 for syntax, CZ403 for an unknown function.
    """
    if "{{" not in text:
        return Template(text, (Text(0, len(text), text),) if text else (), False)
    body, trimmed = parse_template(text, _known)
    return Template(text, body, trimmed)


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Template:
    """A condition: a template, or a bare expression such as `tasks.a.output.ok` (§3.6).

    Raises TemplateError like `parse`.
    """
    if "{{" in text:
        return parse(text)
    node = parse_expression(text, _known)
    return Template(text, (Output(node.start, node.end, node),), False)


def _known(name: str) -> str | None:
    if name in FUNCTIONS or name in LAZY:
        return None
    if name in REFUSED:
        return REFUSED[name]
    from compozy_prefect.language.names import nearest

    near = nearest(name, FUNCTIONS)
    hint = f"did you mean `{near}`?" if near else "put text in quotes; variables begin with a dot"
    return f"unknown function `{name}`\n{hint}"
