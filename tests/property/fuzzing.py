"""Projects that nobody would write, and the compiler over them: diagnostics, and nothing else.

The oracle: reading, checking and, without errors, planning a project raises nothing but UsageError,
in less than SECONDS, beside the reading of code; and a template that is parsed and rendered raises
nothing but TemplateError. Six ways to a case: bytes of a file; maps of the language's own words
with values that do not belong there; files full of references to one another; templates in all
places of a project that is otherwise valid; JavaScript of tools; and single templates and
conditions over data.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from scripts import scripts

from compozy_prefect.compiler.checks import PASSES
from compozy_prefect.compiler.checks.project import project_of
from compozy_prefect.compiler.lower import lower
from compozy_prefect.diagnostics import has_errors, render
from compozy_prefect.errors import TemplateError, UsageError
from compozy_prefect.expressions import Template, parse, parse_condition
from compozy_prefect.expressions.functions import FUNCTIONS
from compozy_prefect.expressions.printer import printed
from compozy_prefect.language.javascript import TOTAL_SECONDS
from compozy_prefect.language.load import load

ROOT = Path(__file__).parents[2]
SECONDS = 1.0
VALID = [
    path.read_text("utf-8")
    for folder in ("tests/cases/valid", "examples/hello-world", "examples/support-ticket")
    for path in sorted((ROOT / folder).glob("*.yaml"))
]
_TEXT = "\n".join(VALID)
WORDS = sorted(set(re.findall(r"[A-Za-z_][\w.-]*", _TEXT)))
KEYS = sorted(set(re.findall(r"[\w$]+(?=:(?:\s|$))", _TEXT)))
TEMPLATES = sorted(set(re.findall(r"\{\{.*?\}\}", _TEXT)))

T = TypeVar("T")
Files = dict[str, bytes]  # of one project, by path


def compile_once(directory: Path, files: Files, seconds: float = SECONDS) -> bool:
    """Whether the project has no errors. Raises AssertionError, or what should not be raised.

    The files stay: of one kind of case, each project has the same ones.
    """
    for name, text in files.items():
        path = directory / name
        if path.parent != directory:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return _in_time(lambda: _compiled(directory), seconds)


def _compiled(directory: Path) -> bool:
    try:
        loaded = load(directory)
    except UsageError:
        return False
    project = project_of(loaded)
    found = [*loaded.diagnostics, *(one for each in PASSES for one in each(project))]
    render(found, loaded.sources)
    is_valid = not has_errors(found)
    if is_valid:
        lower(project)
    return is_valid


def _in_time(call: Callable[[], T], seconds: float = SECONDS) -> T:
    """What the call returns. It is slow when it is twice: the machine may have been, once."""
    for last in (False, True):
        start = time.process_time()
        out = call()
        took = time.process_time() - start
        if took < seconds:
            break
        assert not last, f"{took:.1f} s"
    return out


_DATA: dict[str, Any] = {
    "a": {"b": {"c": 1, "d-e": "x"}, "n": None},
    "list": [3, "two", None, [1, 2], {"k": "v", "w": 2}],
    "rows": [{"k": "x", "v": 1}, {"k": "y", "v": 2.5}, {"k": None}],
    "text": "a b\nc<é>",
    "n": 7,
    "f": -2.5,
    "yes": True,
    "input": {"title": "Hello", "files": [{"path": "a.txt"}, {"path": "b.txt"}], "x": 2},
    "output": {"text": '{"a": [1, 2]}', "score": 0.5},
    "tasks": {"a": {"output": {"x": [1], "ok": True}, "status": "SUCCESS"}, "skipped": None},
    "item": {"id": 1, "tags": ["x", "y"]},
    "index": 0,
    "env": {"X": "test"},
}


def render_once(text: str) -> bool:
    """Whether it is a template or a condition. Raises what should not be raised."""
    is_valid = False
    for parsed in (parse, parse_condition):
        fault = _in_time(lambda parsed=parsed: _fault(lambda: _rendered(parsed(text))))
        if fault is not None:
            assert fault.code.startswith("CZ4"), fault.code
            assert 0 <= fault.start <= fault.end <= len(text), fault.span
        elif not parsed(text).static:
            is_valid = True
            again = printed(template := parsed(text))
            read = parse_condition if template.is_bare else parse
            assert printed(read(again)) == again
    return is_valid


def _rendered(template: Template) -> None:
    template.compile()
    for evaluate in (template.native, template.data, template.text):
        json.dumps(evaluate(_DATA))


def _fault(call: Callable[[], None]) -> TemplateError | None:
    try:
        call()
    except TemplateError as fault:
        return fault
    return None


# --- bytes ----------------------------------------------------------------------------------------

_PIECES = (
    "\n", " ", "  ", "\t", "- ", ": ", "{", "}", "[", "]", ",", '"', "'", "|\n", ">-\n", "&a ",
    "*a", "<<: *a", "!!", "# ", "---\n", "\r", "\ufeff", "\x00", "\u2028", "{{", "}}",
    "$ref: local::", "~", "$use: agent(", "$merge: [", "global::tasks.#(id==",
    "resource::agent::", ")#", "\\", "1e999", "\ud800",
)  # fmt: skip


def source(dice: Random) -> Files:
    """A valid file, cut and put together in other ways."""
    text = dice.choice(VALID)
    for _ in range(dice.randrange(1, 5)):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 1, 5, 40, 400)))
        new = dice.choice((_PIECES, KEYS, WORDS, (text[start:end] * 2, "")))
        text = text[:start] + dice.choice(new) + text[end:]
    return {"compozy.yaml": text.encode("utf-8", "surrogatepass")}


# --- structure ------------------------------------------------------------------------------------

_ODD = (
    None, True, False, 0, 1, -1, 2**63, 10**40, 0.5, -0.0, 1e308, "", " ", "\x00", "é😀", "\ud800",
    "1", "true", "null", "1s", "PT1M", "../x", "/etc/passwd", "https://e.com", "a.b", "*",
    "x" * 300,
)  # fmt: skip
_TYPES = "basic parallel collection composite router aggregate wait signal memory".split()  # noqa: SIM905
_OTHER_TYPES = ("http", "javascript", "buffer", "token_based", "string", "object", "array")
_LISTS = ("tasks", "agents", "tools", "schemas", "models", "memories", "mcps", "triggers")
_IDS = ("a", "b", "c")


def _value(dice: Random, level: int = 0) -> Any:
    kind = dice.randrange(16 if level < 4 else 8)
    if kind < 3:
        return dice.choice(WORDS)
    if kind == 3:
        return dice.choice(TEMPLATES)
    if kind == 4:
        return dice.choice(_IDS)
    if kind == 5:
        return dice.choice(_PIECES)
    if kind < 8:
        return dice.choice(_ODD)
    if kind < 10:
        return [_value(dice, level + 1) for _ in range(dice.randrange(4))]
    if kind == 10:
        return _directive(dice, level + 1)
    if kind == 11:
        return _noun(dice, level + 1)
    return {
        dice.choice(KEYS if dice.randrange(4) else WORDS): _value(dice, level + 1)
        for _ in range(dice.randrange(6))
    }


def _noun(dice: Random, level: int) -> dict[str, Any]:
    out: dict[str, Any] = {"id": dice.choice(_IDS)}
    if dice.randrange(4):
        out["type"] = dice.choice(_TYPES if dice.randrange(4) else _OTHER_TYPES)
    for _ in range(dice.randrange(7)):
        key = dice.choice(KEYS)
        if key in _LISTS and level < 4 and dice.randrange(4):
            out[key] = [_noun(dice, level + 1) for _ in range(dice.randrange(4))]
        elif key not in ("id", "type"):
            out[key] = _value(dice, level + 1)
    return out


def _document(dice: Random) -> dict[str, Any]:
    """Lists with maps that have keys of their kind and values of any."""
    out: dict[str, Any] = {"name": dice.choice(WORDS) if dice.randrange(8) else _value(dice)}
    for _ in range(dice.randrange(1, 6)):
        if dice.randrange(4):
            out[dice.choice(_LISTS)] = [_noun(dice, 0) for _ in range(dice.randrange(4))]
        else:
            out[dice.choice(KEYS)] = _value(dice)
    return out


def structure(dice: Random) -> Files:
    """A project of one file that has tasks."""
    out = _document(dice)
    out.setdefault("tasks", [_noun(dice, 0) for _ in range(dice.randrange(1, 4))])
    return {"compozy.yaml": _dumped(out)}


def _dumped(value: Any) -> bytes:
    """JSON is YAML."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


# --- references -----------------------------------------------------------------------------------

_SEGMENTS = (
    "agents", "tools", "tasks", "models", "schemas", "memories", "config", "input", "a", "b", "id",
    "instructions", "actions", "with", "0", "1", "99", "-1", "#", "x\\.y", "", "name", "routes",
)  # fmt: skip
_KINDS = ("agent", "tool", "task", "mcp", "memory", "workflow", "schema", "model", "Agent ", "x")
_FILES = (
    "compozy.yaml",
    "flow.yaml",
    "agents/a.yaml",
    "tools/b.yaml",
    "tasks/c.yaml",
    "deep/d/e.yaml",
)


def _test(dice: Random) -> str:
    key = dice.choice(("id", "provider", "model", "type", "config.x", "#", ""))
    op = dice.choice(("=", "==", "!=", "<", "<=", ">", ">=", "%", "!%", "~"))
    literal = dice.choice(
        ('"a"', "'b'", '"c"', "1", "true", "null", '"*"', '"?"', '"', "", "-1e9", '"a\\"b"', '"é"')
    )
    return f"{key}{op}{literal}"


def _selector(dice: Random) -> str:
    out = []
    for _ in range(dice.randrange(1, 5)):
        if dice.randrange(3):
            out.append(dice.choice(_SEGMENTS))
            continue
        tests = _test(dice)
        while not dice.randrange(3) and len(tests) < 200:
            tests += dice.choice((" && ", "||", "&")) + _test(dice)
        out.append(f"#({tests}){dice.choice(('', '', '#', ')'))}")
    return ".".join(out)


def _reference(dice: Random) -> str:
    scope = dice.choice(("local", "local", "global", "resource", "schema", "x", ""))
    path = _selector(dice)
    if scope == "resource" and dice.randrange(8):
        path = f"{dice.choice(_KINDS)}::{path}"
    text = f"{scope}::{path}" if dice.randrange(16) else path
    if not dice.randrange(4):
        words = ("deep", "shallow", "replace", "first", "error", "concat", "unique", "", " x", ",")
        chosen = ",".join(dice.choice(words) for _ in range(dice.randrange(4)))
        text += dice.choice(("!merge:<{}>", " !merge:<{}> ", "!merge:{}", "!merge<{}>")).format(
            chosen
        )
    return text


def _directive(dice: Random, level: int = 0) -> Any:
    kind = dice.randrange(8)
    if kind < 3:
        out: dict[str, Any] = {"$ref": _reference(dice)}
    elif kind < 5:
        out = {"$use": f"{dice.choice(_KINDS)}({_reference(dice)})"}
    elif kind < 7:
        sources: Any = [_value(dice, level + 2) for _ in range(dice.randrange(4))]
        sources += [_directive(dice, level + 1) for _ in range(dice.randrange(3)) if level < 4]
        if dice.randrange(2):
            out = {"$merge": sources}
        else:
            out = {"$merge": {"sources": sources}}
            for key in ("strategy", "key_conflict", "x"):
                if not dice.randrange(3):
                    words = ("deep", "shallow", "replace", "first", "error", "prepend", "union", 1)
                    out["$merge"][key] = dice.choice(words)
    else:
        out = {dice.choice(("$ref", "$use", "$merge", "$x")): _value(dice, level + 1)}
    for _ in range(max(0, dice.randrange(6) - 3)):
        out[dice.choice((*KEYS, "$ref", "$use", "$merge"))] = _value(dice, level + 1)
    return out


def references(dice: Random) -> Files:
    """A project of several files, some of them autoloaded, that refer to one another."""
    documents = [_document(dice) for _ in _FILES]
    for document in documents:
        for _ in range(dice.randrange(5)):
            key = dice.choice((*_LISTS, "config", "outputs", "x"))
            here = document.setdefault(key, [])
            if isinstance(here, list) and dice.randrange(4):
                here.append(_directive(dice))
            else:
                document[key] = _directive(dice)
    first, *rest = documents
    first["autoload"] = {
        "enabled": bool(dice.randrange(8)),
        "strict": bool(dice.randrange(2)),
        "include": [
            dice.choice(
                ("**/*.yaml", "agents/**", "tools/*", "{tasks,deep}/**", "[a-z]*/*", "../*")
            )
            for _ in range(dice.randrange(1, 4))
        ],
        "exclude": [
            dice.choice(("**/b.yaml", "*", "deep/**", "")) for _ in range(dice.randrange(2))
        ],
    }
    first.setdefault("workflows", [{"source": dice.choice(("flow.yaml", "./flow.yaml", "f.yaml"))}])
    for document in rest:
        if dice.randrange(4):
            document["resource"] = dice.choice(_KINDS)
        if dice.randrange(4):
            document["id"] = dice.choice(_IDS) if dice.randrange(8) else _value(dice)
    rest[0].setdefault("tasks", [_noun(dice, 0)])
    return {name: _dumped(one) for name, one in zip(_FILES, documents, strict=True)}


# --- templates ------------------------------------------------------------------------------------

TOKENS = (
    ".", "$", "$x", ":=", "=", "==", "!=", "&&", "||", "!", "|", "(", ")", "[", "]", ",", "?",
    ":", "+", "-", "*", "/", "%", "<", ">=", "0", "-1", "3.5", "1e400", '"a"', "'b'", "`c`",
    "'", "true", "nil", ".tasks", ".tasks.a.output", ".input", ".with.x", ".env.X", ".item",
    ".output", ".workflow", ".index", ".rows", ".list", ".text", ".a.b", "if", "else", "end",
    "range", "with", "define", "template", "block", "break", "continue", "in", "map('x')",
    "filter('x', 'gt', 1)", "slice(0, 1)", "validateSchema('s')", "exists(x, x)", ".all(x, x.k)",
    "size(", "has(", "\n", "{{", "}}", "{{-", "-}}", "/*", "*/",
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
_CALLED = sorted(FUNCTIONS)


def _body(dice: Random) -> str:
    joint = dice.choice((" ", " ", ""))
    sets = (TOKENS, TOKENS, TOKENS, _CALLED, WORDS)
    return joint.join(dice.choice(dice.choice(sets)) for _ in range(dice.randrange(13)))


def _template(dice: Random) -> str:
    kind = dice.randrange(4)
    if kind == 0:
        return f"{{{{ {_body(dice)} }}}}"
    if kind == 1:
        return f"{dice.choice(TEMPLATES)[:-2]}{_body(dice)}}}}}"
    if kind == 2:
        return " ".join(dice.choice((_body(dice), dice.choice(TEMPLATES))) for _ in range(3))
    return _body(dice)


def templates(dice: Random) -> Files:
    """The skeleton, where numbers stand for templates."""
    made = [_template(dice) for _ in range(dice.randrange(1, 6))]

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return made[value % len(made)] if isinstance(value, int) else value

    return {"compozy.yaml": _dumped(filled(_SKELETON))}


PROJECTS: dict[str, Callable[[Random], Files]] = {
    "sources": source,
    "structures": structure,
    "references": references,
    "templates": templates,
    "scripts": scripts,
}
KINDS = (*PROJECTS, "expressions")


def case(kind: str, dice: Random, directory: Path) -> bool:
    """Makes a case and tries it; whether it was a valid one."""
    if kind == "expressions":
        return render_once(_template(dice))
    # Code that is no code may be read for as long as all code of a project may.
    seconds = SECONDS + (TOTAL_SECONDS if kind == "scripts" else 0)
    return compile_once(directory, PROJECTS[kind](dice), seconds)
