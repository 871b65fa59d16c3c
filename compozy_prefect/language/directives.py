"""The text of a `$ref` or `$use`, and the options of a `$merge` → what they ask for.

The grammar is in language.md §10.1. What breaks it is raised as `Broken`, which the resolver
turns into the diagnostic it carries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from compozy_prefect.diagnostics import Span, error
from compozy_prefect.language import selectors
from compozy_prefect.language.merge import CONFLICTS, LIST_STRATEGIES, MAP_STRATEGIES, Options
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar

DIRECTIVES = {"$ref": None, "$use": None, "$merge": None}
SCOPES = ("local", "global", "resource")
KINDS = ("agent", "tool", "task", "mcp")


class Broken(Exception):
    """A directive that cannot be resolved; carries its diagnostic."""

    def __init__(self, code: str, message: str, at: Node | Span, hint: str | None = None) -> None:
        super().__init__(message)
        self.diagnostic = error(code, message, at if isinstance(at, Span) else at.span, hint)


class Reference(NamedTuple):
    """`scope::path` with its merge options.

    `origin` is the scalar it is written in, `offset` where the path starts in its text.
    `resource` is (type, id) in lower case when the scope is `resource`.
    """

    scope: str
    path: str
    steps: tuple[selectors.Step, ...]
    options: Options
    origin: Scalar
    offset: int
    resource: tuple[str, str] = ("", "")
    ignored: str = ""  # a merge option that means nothing

    def __str__(self) -> str:
        kind = f"{self.resource[0]}::{self.resource[1]}." if self.scope == "resource" else ""
        return f"{self.scope}::{kind}{self.path}".rstrip(".")

    def step_span(self, step: selectors.Step) -> Span:
        return self.origin.span_of(self.offset + step.start, self.offset + step.end)

    def before(self, step: selectors.Step) -> str:
        """The part of the path in front of a step."""
        return self.path[: step.start].strip().rstrip(".")


def listed(name: str, known: Iterable[str]) -> str | None:
    """The hint for a name that is not there: the nearest, and what there is."""
    names = list(dict.fromkeys(known))
    near = suggest(name, names, what="there is")
    if near is None or not near.startswith("did you mean"):
        return near
    return f"{near} there is: {', '.join(names[:5])}" if len(names) > 1 else near


# --- $ref and $use --------------------------------------------------------------------------------

_OPTIONS = re.compile(r"\s*!merge:<(?P<words>[^<>]*)>\s*\Z")
_USE = re.compile(r"\s*(?P<kind>[^\s(]*)\s*\((?P<body>.*)\)\s*\Z", re.S)
_SCOPED = re.compile(r"\s*(?P<scope>[^:\s]*)\s*::(?P<path>.*)\Z", re.S)
_RESOURCE = re.compile(r"\s*(?P<kind>[^:.#\s]+)\s*::\s*(?P<rest>.*)\Z", re.S)
_USE_EXAMPLE = 'write $use: agent(local::agents.#(id="writer"))'
_REF_EXAMPLE = 'write $ref: local::tools.#(id=="search")'


def parse_ref(value: Scalar) -> Reference:
    text = _text(value, "$ref")
    text, options, ignored = _split_options(value, text)
    reference = _reference(value, text, 0, options, _REF_EXAMPLE)
    return reference._replace(ignored=ignored) if ignored else reference


def parse_use(value: Scalar) -> tuple[str, Scalar, Reference]:
    text = _text(value, "$use")
    text, options, ignored = _split_options(value, text)
    match = _USE.match(text)
    if match is None:
        raise Broken(
            "CZ202", "$use takes agent(…), tool(…), task(…) or mcp(…)", value, _USE_EXAMPLE
        )
    kind = match["kind"]
    if kind not in KINDS:
        span = value.span_of(*match.span("kind"))
        raise Broken("CZ203", f'$use knows no "{kind}"', span, listed(kind, KINDS))
    reference = _reference(value, match["body"], match.start("body"), options, _USE_EXAMPLE)
    return kind, value, reference._replace(ignored=ignored) if ignored else reference


def _text(value: Scalar, name: str) -> str:
    text = value.value
    assert isinstance(text, str)
    if (at := text.find("{{")) >= 0:
        end = text.find("}}", at)
        span = value.span_of(at, end + 2 if end > 0 else len(text))
        hint = "directives are resolved before anything runs; choose with a router instead"
        raise Broken("CZ202", f"a template cannot stand in a {name}", span, hint)
    return text


def _split_options(value: Scalar, text: str) -> tuple[str, Options, str]:
    at = text.rfind("!merge")
    if at < 0 or text.count('"', 0, at) % 2 or text.count("'", 0, at) % 2:
        return text, Options(), ""
    match = _OPTIONS.search(text)
    if match is None:
        hint = "write !merge:<deep,first> at the end"
        raise Broken(
            "CZ205", "the merge options cannot be read", value.span_of(at, len(text)), hint
        )
    strategy: str | None = None
    conflict: str | None = None
    ignored = ""
    # Each word is tried as strategy, then as key_conflict; other words are ignored (§10.1).
    for word in (w.strip() for w in match["words"].split(",")):
        if word in MAP_STRATEGIES and strategy is None:
            strategy = word
        elif word in CONFLICTS and conflict is None:
            conflict = word
        elif word:
            ignored = word
    return text[: match.start()], Options(strategy, conflict or "replace"), ignored


def _reference(value: Scalar, text: str, offset: int, options: Options, example: str) -> Reference:
    match = _SCOPED.match(text)
    if match is None:
        hint = "write `::` between scope and path" if ":" in text else example
        problem = "a scope is missing: local::, global:: or resource::"
        raise Broken("CZ202", problem, value.span_of(offset, offset + len(text)), hint)
    scope, path = match["scope"], match["path"]
    if scope not in SCOPES:
        span = value.span_of(offset + match.start("scope"), offset + match.end("scope"))
        raise Broken("CZ203", f'"{scope}" is no scope', span, listed(scope, SCOPES))
    at = offset + match.start("path")
    if scope == "resource":
        return _resource(value, path, at, options)
    if "::" in path and "#(" not in path.partition("::")[0]:
        extra = at + path.index("::")
        problem = f"{scope}:: takes one path, without another `::`"
        raise Broken("CZ202", problem, value.span_of(extra, extra + 2))
    return Reference(scope, path, _steps(value, path, at), options, value, at)


def _resource(value: Scalar, text: str, offset: int, options: Options) -> Reference:
    """`type::#(id=="x").path`, or `type::x.path` (§10.1)."""
    example = "write resource::agent::writer, or resource::agent::#(id=='writer')"
    match = _RESOURCE.match(text)
    if match is None or not match["rest"].strip():
        span = value.span_of(offset, offset + len(text))
        raise Broken("CZ202", "resource:: needs a type and an id", span, example)
    rest, at = match["rest"], offset + match.start("rest")
    steps = _steps(value, rest, at)
    first = steps[0]
    name: str | None = None
    if isinstance(first, selectors.Key):
        name = first.name
    elif isinstance(first, selectors.Query) and not first.every and len(first.tests) == 1:
        test = first.tests[0][0]
        if len(first.tests[0]) == 1 and test.path == ("id",) and test.op == "==":
            name = str(test.literal)
    span = value.span_of(at + first.start, at + first.end)
    if name is None:
        raise Broken("CZ202", "resource:: finds things by id only", span, example)
    if "::" in name:
        raise Broken("CZ202", "resource:: takes one type and one id", span, example)
    resource = (match["kind"].strip().lower(), name.strip().lower())
    path = rest[first.end :].lstrip(".")
    if not path:
        return Reference("resource", "", (), options, value, at, resource)
    at += len(rest) - len(path)
    return Reference("resource", path, _steps(value, path, at), options, value, at, resource)


def _steps(value: Scalar, path: str, offset: int) -> tuple[selectors.Step, ...]:
    try:
        return selectors.parse(path)
    except selectors.Malformed as bad:
        span = value.span_of(offset + bad.start, offset + bad.end)
        raise Broken("CZ202", bad.message, span, bad.hint) from None


# --- $merge ---------------------------------------------------------------------------------------

_MERGE_KEYS = ("sources", "strategy", "key_conflict")


def merge_options(given: Mapping) -> Options:
    """The options of `$merge: {sources, strategy, key_conflict}`."""
    for name, key in given.keys.items():
        if name not in _MERGE_KEYS:
            hint = listed(name, _MERGE_KEYS)
            raise Broken("CZ205", f'$merge has no option "{name}"', key, hint)
    if given.get("sources") is None:
        raise Broken("CZ205", "$merge needs `sources`", given, "write sources: [first, second]")
    strategies = tuple(dict.fromkeys(MAP_STRATEGIES + LIST_STRATEGIES))
    strategy = _word(given, "strategy", strategies)
    return Options(strategy, _word(given, "key_conflict", CONFLICTS) or "replace")


def _word(given: Mapping, name: str, known: tuple[str, ...]) -> str | None:
    node = given.get(name)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return None
    word = node.text if isinstance(node, Scalar) else ""
    if word not in known:
        shown = f'"{word}"' if word else f"a {node.kind}"
        raise Broken("CZ205", f"{name} cannot be {shown}", node, listed(word, known))
    return word
