"""Templates as values: parsed once, checked through their reads, evaluated many times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions.conditions import parse_expression
from compozy_prefect.expressions.effort import LIMIT, MAX_OUTPUT
from compozy_prefect.expressions.evaluate import FUNCTION, Expression, ExpressionCompiler, Frame
from compozy_prefect.expressions.functions import (
    FUNCTIONS,
    REFUSED,
    Environment,
    FunctionError,
    plain,
    to_text,
)
from compozy_prefect.expressions.nodes import (
    Assign,
    Call,
    Define,
    If,
    Key,
    Node,
    Output,
    Path,
    Range,
    Text,
    With,
)
from compozy_prefect.expressions.parser import parse_template
from compozy_prefect.expressions.reads import Asked, Read, Use, reads_of
from compozy_prefect.expressions.statements import Compiler, Statement
from compozy_prefect.expressions.syntax import LAZY
from compozy_prefect.language.names import nearest

_GUARDS = frozenset(name for name, function in FUNCTIONS.items() if function.guard) | LAZY
# Functions whose result is an argument or a part of one: nothing that JSON does not have.
_PASSING = (_GUARDS - {"dig"}) | {
    "index",
    "get",
    "len",
    "length",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
}


class Template:
    """A parsed template. Make one with `parse` or `parse_condition`, which cache.

    `static`: it has no action at all, and is its own value. `is_bare`: it is a condition without
    braces, in which every missing path reads as null.
    """

    def __init__(
        self, text: str, body: tuple[Node, ...], trimmed: bool, is_bare: bool = False
    ) -> None:
        self.text_of = text
        self.body = body
        self.static = all(isinstance(node, Text) for node in body) and "{{" not in text
        self._trimmed = trimmed
        self.is_bare = is_bare
        self.reads: tuple[Read, ...]
        self.uses: tuple[Use, ...]
        self.asked: tuple[Asked, ...]
        self.reads, self.uses, self.asked = reads_of(body, _GUARDS, is_bare)
        self._keys = self._plain_path()
        self._makes_values = any(use.name not in _PASSING for use in self.uses)

    @cached_property
    def whole(self) -> Node | None:
        """The expression of a template that is exactly one action (white space aside), or None."""
        nodes = [n for n in self.body if not (isinstance(n, Text) and not n.value.strip())]
        return nodes[0].value if len(nodes) == 1 and isinstance(nodes[0], Output) else None

    def _plain_path(self) -> tuple[str, ...]:
        """The keys of `{{ .a.b.c }}`, the template that is evaluated most; else none."""
        path = self.whole
        if not isinstance(path, Path) or path.base not in (".", "$"):
            return ()
        keys = tuple(s.name for s in path.segments if isinstance(s, Key) and type(s.name) is str)
        return keys if len(keys) == len(path.segments) else ()

    @cached_property
    def _expression(self) -> tuple[Expression, int] | None:
        if self.whole is None:
            return None
        compiler = ExpressionCompiler(self.text_of)
        try:
            return compiler.expression(self.whole, self.is_bare), compiler.slots
        except RecursionError:
            raise _too_deep(self.text_of) from None

    @cached_property
    def _statements(self) -> tuple[Statement, int]:
        compiler = Compiler(self.text_of)
        try:
            return compiler.template(self.body), compiler.slots
        except RecursionError:
            raise _too_deep(self.text_of) from None

    def compile(self) -> None:
        """Finds what the parser cannot see: counts of arguments, undeclared `$variables`.

        Raises TemplateError. Evaluation calls it by itself.
        """
        self._expression or self._statements  # noqa: B018

    def native(self, context: Mapping[str, Any], environment: Environment | None = None) -> Any:
        """The value of a template of one action with its type, and text otherwise (§11.4)."""
        keys = self._keys
        if keys:
            value: Any = context
            try:
                for key in keys:
                    value = value[key]
                return value if type(value) is not datetime else to_text(value)
            except (KeyError, TypeError, IndexError):
                pass  # the rules of §11.5 for what is missing follow below
        if self.static:
            return self.text_of
        if self._expression is None:
            text = self.text(context, environment)
            return text.strip() if self.is_stripped else text
        expression, slots = self._expression
        try:
            value = expression(Frame(context, environment, slots))
            # Times become text, and a map that a function may still change becomes data.
            return plain(value) if self._makes_values or type(value) is datetime else value
        except FunctionError as fault:
            raise _whole(self.text_of, str(fault), FUNCTION) from None
        except RecursionError:
            raise _too_deep(self.text_of) from None

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
                return json.loads(text, parse_constant=_refuse)
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
    def is_stripped(self) -> bool:
        """Whether the value loses the white space around it: blocks only, with trim markers."""
        if not self._trimmed:
            return False
        nodes = [n for n in self.body if not (isinstance(n, Text) and not n.value.strip())]
        return all(isinstance(n, (If, With, Range, Assign, Define)) for n in nodes)

    def text(self, context: Mapping[str, Any], environment: Environment | None = None) -> str:
        """Always text: for prompts, headers and keys."""
        keys = self._keys
        if keys:
            value: Any = context
            try:
                for key in keys:
                    value = value[key]
                if type(value) is str and len(value) <= MAX_OUTPUT:
                    return value
            except (KeyError, TypeError, IndexError):
                pass  # as in `native`
        if self.static:
            return self.text_of
        body, slots = self._statements
        out: list[str] = []
        try:
            body(Frame(context, environment, slots), out)
        except RecursionError:
            raise _too_deep(self.text_of) from None
        return "".join(out)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


# The passes of the compiler come to each template in turn. With more templates than the cache
# holds, every pass would parse all of them again.
_KEPT = 1 << 16


@lru_cache(maxsize=_KEPT)
def parse(text: str) -> Template:
    """The template that `text` is.

    Raises TemplateError with offsets: CZ401 for syntax, CZ403 for an unknown function.
    """
    if "{{" not in text:
        return Template(text, (Text(0, len(text), text),) if text else (), False)
    try:
        body, trimmed = parse_template(text, _known)
        return Template(text, body, trimmed)
    except RecursionError:
        raise _too_deep(text) from None


@lru_cache(maxsize=_KEPT)
def parse_condition(text: str) -> Template:
    """A condition: a template, or a bare expression such as `tasks.a.output.ok` (§3.6).

    Raises TemplateError like `parse`.
    """
    if "{{" in text:
        return parse(text)
    try:
        node = parse_expression(text, _known)
        return Template(text, (Output(node.start, node.end, node),), False, is_bare=True)
    except RecursionError:
        raise _too_deep(text) from None


def _too_deep(text: str) -> TemplateError:
    return _whole(text, "the template is nested too deep", LIMIT)


def _whole(text: str, message: str, code: str) -> TemplateError:
    return TemplateError(message, code=code, template=text, start=0, end=len(text))


@lru_cache(maxsize=1024)  # a faulty template is parsed by each pass that comes to it
def _known(name: str) -> str | None:
    if name in FUNCTIONS or name in LAZY:
        return None
    if name in REFUSED:
        return REFUSED[name]
    near = nearest(name, FUNCTIONS)
    hint = f"did you mean `{near}`?" if near else "put text in quotes; variables begin with a dot"
    return f"unknown function `{name}`\n{hint}"
