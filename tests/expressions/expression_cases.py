"""The text fixtures of tests/cases/expressions: read, compared, and with UPDATE_CASES=1 rewritten.

A file holds sections, and a section a list of cases. A case has a `template` (or a `condition`),
perhaps a `context` (a map, or the name of one in contexts.yaml, where the file's own name and
`default` come by themselves), and what is expected of it:

    value   what `native` gives, `true` being no 1 and 1 no 1.0
    text    what `text` gives
    data    what `data` gives
    reads   the paths it reads, as `.a.*.b start-end [guarded]`, `*` for what a run decides
    uses    the functions it calls with their literal texts, as `f('a', 'b') start-end`
    error   `CODE start-end message | hint`, of whichever stage finds it
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from compozy_prefect.expressions import Template, TemplateError, parse, parse_condition
from compozy_prefect.expressions.reads import Read

CASES = Path(__file__).parent.parent / "cases" / "expressions"
UPDATE = os.environ.get("UPDATE_CASES") == "1"
GIVEN = ("template", "condition", "context")
ASPECTS = ("value", "text", "data", "reads", "uses")


class _Loader(yaml.CSafeLoader):
    """YAML in which dates and the words yes and no stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith(":timestamp") and (not tag.endswith(":bool") or first in "tfTF")
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=_Loader)


CONTEXTS: dict[str, dict[str, Any]] = load(CASES / "contexts.yaml")


def files() -> list[str]:
    return sorted(p.name for p in CASES.glob("*.yaml") if p.name != "contexts.yaml")


def cases(file: str) -> list[Any]:
    """The cases of one file as pytest parameters."""
    return [
        pytest.param(file, case, id=f"{file[:-5]}: {section} [{number}]")
        for section, group in load(CASES / file).items()
        for number, case in enumerate(group)
    ]


def seen(file: str, case: dict[str, Any]) -> dict[str, Any]:
    """What the engine makes of the case: the aspects it asks for, or the error that came out."""
    context = case.get("context", file[:-5] if file[:-5] in CONTEXTS else "default")
    if isinstance(context, str):
        context = CONTEXTS[context]
    aspects = [a for a in ASPECTS if a in case] or ["value"]
    try:
        template = parse_condition(case["condition"]) if "condition" in case else parse(_of(case))
        template.compile()
        return {aspect: _aspect(template, aspect, context) for aspect in aspects}
    except TemplateError as error:
        hint = f" | {error.hint}" if error.hint else ""
        return {"error": f"{error.code} {error.start}-{error.end} {error.message}{hint}"}


def _of(case: dict[str, Any]) -> str:
    template = case["template"]
    assert isinstance(template, str)
    return template


def _aspect(template: Template, aspect: str, context: dict[str, Any]) -> Any:
    if aspect == "value":
        return template.native(context)
    if aspect == "text":
        return template.text(context)
    if aspect == "data":
        return template.data(context)
    if aspect == "reads":
        return [_line(read) for read in template.reads]
    return [f"{u.name}{u.texts or '()'} {u.start}-{u.end}" for u in template.uses]


def _line(read: Read) -> str:
    path = "".join(f".{'*' if segment is None else segment}" for segment in read.segments)
    return f"{path} {read.start}-{read.end}{' guarded' if read.guarded else ''}"


def rewrite(file: str) -> None:
    """Writes what the engine makes of every case as what is expected of it."""
    path = CASES / file
    sections = load(path)
    for group in sections.values():
        for i, case in enumerate(group):
            kept = {k: v for k, v in case.items() if k in GIVEN}
            group[i] = {**kept, **seen(file, case)}
    write(path, sections)


def write(path: Path, sections: dict[str, list[Any]]) -> None:
    """A file as the fixtures are written: its head comment, its sections, a case a paragraph."""
    head = "".join(x for x in path.read_text().splitlines(keepends=True) if x.startswith("# "))
    text = yaml.dump(sections, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    lines = text.splitlines(keepends=True)
    path.write_text(head + "".join(f"\n{x}" if x[0] not in " -#\n" else x for x in lines).lstrip())


class _Dumper(yaml.SafeDumper):
    """YAML as a person would write it: data in one line, text of several lines quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_data(self, data: Any) -> yaml.Node:
        if isinstance(data, str) and not data.isprintable():
            return self.represent_scalar("tag:yaml.org,2002:str", data, style='"')
        node = super().represent_data(data)
        if isinstance(node, yaml.CollectionNode) and not _has_cases(data):
            node.flow_style = True
        return node


def _has_cases(data: Any) -> bool:
    """Whether this is a file, a section or a case, and not a value in one."""
    if isinstance(data, dict):
        return "template" in data or "condition" in data or _has_cases(next(iter(data.values()), 0))
    return isinstance(data, list) and bool(data) and _has_cases(data[0])
