"""Projects that nobody would write, and the compiler over them: diagnostics, and nothing else.

The oracle: reading, checking and, without errors, planning a project raises nothing but UsageError,
in less than SECONDS. Three ways to a project: bytes, maps of the language's own words with values
that do not belong there, and templates in all places of a project that is otherwise valid.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from compozy_prefect.compiler.checks import PASSES
from compozy_prefect.compiler.checks.project import project_of
from compozy_prefect.compiler.lower import lower
from compozy_prefect.diagnostics import has_errors, render
from compozy_prefect.errors import TemplateError, UsageError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.language.load import load

ROOT = Path(__file__).parents[2]
SECONDS = 2.0
VALID = [
    path.read_bytes()
    for folder in ("tests/cases/valid", "examples/hello-world", "examples/support-ticket")
    for path in sorted((ROOT / folder).glob("*.yaml"))
]
_TEXT = "\n".join(one.decode() for one in VALID)
WORDS = sorted(set(re.findall(r"[A-Za-z_][\w.-]*", _TEXT)))
KEYS = sorted(set(re.findall(r"[\w$]+(?=:(?:\s|$))", _TEXT)))
TEMPLATES = sorted(set(re.findall(r"\{\{.*?\}\}", _TEXT)))


def compile_once(directory: Path, text: bytes) -> None:
    """One case; raises AssertionError, or what the compiler should not have raised."""
    (directory / "compozy.yaml").write_bytes(text)
    start = time.process_time()
    try:
        loaded = load(directory)
    except UsageError:
        return
    project = project_of(loaded)
    found = [*loaded.diagnostics, *(one for each in PASSES for one in each(project))]
    render(found, loaded.sources)
    if not has_errors(found):
        lower(project)
    took = time.process_time() - start
    assert took < SECONDS, f"{took:.1f} s"


def parse_once(text: bytes) -> None:
    """One template, also as a condition."""
    for parsed in (parse, parse_condition):
        start = time.process_time()
        with suppress(TemplateError):
            parsed(text.decode("utf-8", "replace")).compile()
        took = time.process_time() - start
        assert took < SECONDS, f"{took:.1f} s"


# --- bytes ----------------------------------------------------------------------------------------

_PIECES = (
    "\n", " ", "  ", "\t", "- ", ": ", "{", "}", "[", "]", ",", '"', "'", "|\n", ">-\n", "&a ",
    "*a", "<<: *a", "!!", "# ", "---\n", "\r", "\ufeff", "\x00", "\u2028", "{{", "}}",
    "$ref: local::", "~", "$use: agent(", "$merge: [", "global::tasks.#(id==",
    "resource::agent::", ")#", "\\", "1e999",
)  # fmt: skip


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A valid file, cut and put together in other ways."""
    text = draw(st.sampled_from(VALID)).decode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 1, 5, 40, 400))))
        new = draw(st.sampled_from((*_PIECES, *KEYS, *WORDS, text[start:end] * 2, "")))
        text = text[:start] + new + text[end:]
    return text.encode()


SOURCES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    edited(),
)


# --- structure ------------------------------------------------------------------------------------


def _maps(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(st.sampled_from(KEYS), st.sampled_from(WORDS))
    return st.one_of(st.lists(inside, max_size=4), st.dictionaries(keys, inside, max_size=6))


_LEAVES = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(TEMPLATES),
    st.sampled_from(_PIECES),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False),
    st.text(max_size=20),
)
_VALUES = st.recursive(_LEAVES, _maps, max_leaves=12)
_TYPES = "basic parallel collection composite router aggregate wait signal memory".split()  # noqa: SIM905
_LISTS = ("tasks", "agents", "tools", "schemas", "models", "memories", "mcps", "triggers")


@st.composite
def structured(draw: st.DrawFn) -> bytes:
    """A project of lists with maps that have keys of their kind and values of any."""
    out: dict[str, Any] = {"name": draw(st.sampled_from(WORDS) | _VALUES)}
    for kind in draw(st.lists(st.sampled_from((*_LISTS, *KEYS)), min_size=1, max_size=5)):
        out[kind] = draw(_VALUES) if kind not in _LISTS else draw(st.lists(_nouns(), max_size=3))
    out.setdefault("tasks", draw(st.lists(_nouns(), min_size=1, max_size=3)))
    return json.dumps(out, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _nouns() -> st.SearchStrategy[Any]:
    fixed = {"id": st.sampled_from(("a", "b", "c"))}
    also = {
        "type": st.sampled_from((*_TYPES, "http", "javascript", "buffer", "token_based")),
        **{key: _VALUES for key in KEYS if key not in ("id", "type")},
    }
    some = st.lists(st.sampled_from(sorted(also)), max_size=6, unique=True)
    return some.flatmap(
        lambda keys: st.fixed_dictionaries(fixed | {key: also[key] for key in keys})
    )


# --- templates ------------------------------------------------------------------------------------

_TOKENS = (
    ".", "$", "$x", ":=", "=", "==", "!=", "&&", "||", "!", "|", "(", ")", "[", "]", ",", "?",
    ":", "+", "-", "*", "/", "%", "<", ">=", "0", "-1", "3.5", "1e400", '"a"', "'b'", "`c`",
    "'", "true", "nil", ".tasks", ".tasks.a.output", ".input", ".with.x", ".env.X", ".item",
    ".output", ".workflow", ".index", "if", "else", "end", "range", "with", "define",
    "template", "block", "break", "in", "index", "default", "ternary", "map('x')",
    "filter('x', 'gt', 1)", "toJson", "regexMatch", "eq", "printf", "len", "dict", "list",
    "slice(0, 1)", "validateSchema('s')", "exists(x, x)", "\n", "{{", "}}", "{{-", "-}}", "/*",
    "*/",
)  # fmt: skip
_SKELETON = {
    "name": "fuzz",
    "models": [{"provider": "mock", "model": "m"}],
    "schemas": [{"id": "s", "type": "object", "properties": {"x": {"type": "string"}}}],
    "config": {"input": "s", "env": {"X": 0}},
    "agents": [
        {
            "id": "w",
            "instructions": 1,
            "with": {"x": 2},
            "actions": [{"id": "go", "prompt": 3, "input": "s"}],
        }
    ],
    "tools": [
        {"id": "t", "type": "http", "config": {"base_url": "https://e.com", "headers": {"X": 4}}}
    ],
    "tasks": [
        {"id": "a", "with": {"x": 5}, "outputs": {"y": 6}, "condition": 7},
        {"id": "b", "agent": "w", "action": 8, "with": {"x": 9}},
        {
            "id": "c",
            "type": "collection",
            "items": 10,
            "filter": 11,
            "task": {"id": 12, "tool": "t", "with": {"x": 13}},
            "outputs": {"y": 14},
        },
        {"id": "d", "type": "router", "condition": 15, "routes": {"x": "a", "default": "b"}},
        {"id": "e", "type": "wait", "wait_for": 16, "condition": 17},
        {"id": "f", "prompt": 18},
    ],
    "outputs": {"z": 19},
}


@st.composite
def templated(draw: st.DrawFn) -> bytes:
    """The skeleton, where numbers stand for templates."""
    token = st.sampled_from((*_TOKENS, *WORDS))
    body = st.lists(token, max_size=12).map(" ".join)
    one = st.one_of(
        body.map(lambda text: "{{ " + text + " }}"),
        st.tuples(st.sampled_from(TEMPLATES), body).map(lambda two: two[0][:-2] + two[1] + "}}"),
        st.lists(st.one_of(body, st.sampled_from(TEMPLATES)), max_size=4).map(" ".join),
        body,
    )
    made = [draw(one) for _ in range(draw(st.integers(1, 5)))]

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return made[value % len(made)] if isinstance(value, int) else value

    return json.dumps(filled(_SKELETON), ensure_ascii=False).encode("utf-8", "surrogatepass")


KINDS: dict[str, st.SearchStrategy[bytes]] = {
    "sources": SOURCES,
    "structures": structured(),
    "templates": templated(),
    "expressions": st.text(max_size=80).map(lambda text: f"{{{{ {text} }}}}".encode()),
}
