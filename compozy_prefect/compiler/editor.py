"""The declarations of the nouns → JSON Schemas (draft 2020-12) for editors.

A directive may stand wherever a value does, since what it brings is only known when the project is
read; keys that nobody knows are left to `compozy validate`. Keywords for maps say nothing of a
text, and those for texts nothing of a map, so that a field of several forms needs no `anyOf`, for
which editors have no plain message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Declared, Kind, Noun, Selector, fields_of
from compozy_prefect.language.models.knowledge import Embedder, KnowledgeBase, VectorDb
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.project import NamedSchema, Project, SingleFile, Workflow
from compozy_prefect.language.models.settings import SECTIONS
from compozy_prefect.language.models.suite import Suite
from compozy_prefect.language.models.task import TASK_TYPES, Task
from compozy_prefect.language.models.tool import Tool

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

# What a file may hold, by the name that its `resource` has (language.md §10.6); a test has none.
KINDS: dict[str, type[Noun]] = {
    "project": Project,
    "workflow": Workflow,
    "task": Task,
    "agent": Agent,
    "tool": Tool,
    "mcp": Mcp,
    "memory": Memory,
    "model": Model,
    "schema": NamedSchema,
    "knowledge_base": KnowledgeBase,
    "embedder": Embedder,
    "vectordb": VectorDb,
    "test": Suite,
}

# What tells the type of a task that does not state it, in this order (language.md §3.1).
_TELLING = {
    "router": "routes",
    "collection": "items",
    "wait": "wait_for",
    "signal": "signal",
    "memory": "operation",
}
_DIRECTIVES = {
    "$ref": {"type": "string", "description": 'A value from elsewhere: `local::agents.#(id="x")`.'},
    "$use": {"type": "string", "description": "An agent, a tool or a task from elsewhere."},
    "$merge": {"type": ["array", "object"], "description": "Several maps or lists as one."},
}
_DIRECTIVE = {
    "directive": {
        "properties": dict(_DIRECTIVES),
        "minProperties": 1,
        "propertyNames": {"enum": list(_DIRECTIVES)},
    }
}
_UNIT = "|".join(("[nNuUµμmM][sS]", "[sSmMhHdDwW]"))
_WORD = "|".join(
    "".join(f"[{letter}{letter.upper()}]" for letter in word)
    for word in ("millisecond", "second", "minute", "hour", "day", "week")
)
_DURATION = (
    rf"^\s*(0?|(([0-9]+(\.[0-9]*)?|\.[0-9]+)({_UNIT}))+"
    rf"|[0-9]+(\.[0-9]+)?\s*({_WORD})[sS]?)\s*$"
)
# Shown by VS Code in the place of the pattern.
_FORMS = "Write `30s`, `1h30m`, `500ms`, `7d` or `5 minutes`."
_SIZE = r"^\s*[0-9]+(\.[0-9]+)?\s*[KMGTkmgt]?[iI]?[bB]?\s*$"
_TYPES = {
    "text": ["string", "number"],  # a number is taken as it is written
    "choice": ["string"],
    "int": ["integer"],
    "float": ["number"],
    "bool": ["boolean"],
    "duration": ["string", "number"],
    "size": ["string", "number"],
    "list": ["array"],
    "map": ["object"],
    "noun": ["object"],
}


def schema(kind: str) -> Schema:
    """The JSON Schema of a file that holds a `kind`, one of KINDS."""
    noun = KINDS[kind]
    made = _Definitions(directives=not noun.is_closed)
    root = made.reference(noun) | (_NAMED if noun is Task else {})
    if noun is Project:
        # A project file with tasks is also its workflow (§1.3).
        single = made.reference(SingleFile)
        root = {"if": {"required": ["tasks"]}, "then": single, "else": root}
    return {
        "$schema": DRAFT,
        "title": f"Compozy {kind.replace('_', ' ')}",
        "description": describe(kind),
        "type": "object",
        **root,
        "$defs": (_DIRECTIVE if made.directives else {}) | made.done,
    }


def describe(kind: str) -> str:
    """What a kind is, in a sentence."""
    return _said(KINDS[kind]).split("\n")[0]


def _said(noun: type[Noun]) -> str:
    """What its docstring says, without the section of the specification."""
    return re.sub(r" \(§[^)]*\)", "", (noun.__doc__ or "").strip())


class _Definitions:
    """The schemas of all nouns that are reached, by name; `directives`: as a value may be."""

    def __init__(self, *, directives: bool) -> None:
        self.done: dict[str, Schema] = {}
        self.directives = dict(_DIRECTIVES) if directives else {}

    def reference(self, noun: type[Noun]) -> Schema:
        """To a definition that holds for maps, and says nothing of other values."""
        name = noun.__name__
        if name not in self.done:
            self.done[name] = {}  # nouns refer to each other in circles
            self.done[name] = self._task() if noun is Task else self._noun(noun)
        return _like(name)

    def _noun(self, noun: type[Noun]) -> Schema:
        known = fields_of(noun)
        required = [key for key, declared in known.items() if declared.spec.is_required]
        out: Schema = {
            "description": _said(noun),
            "properties": {key: self._field(declared) for key, declared in known.items()}
            | self.directives,
        }
        rules: Schema = {"required": required} if required else {}
        if not noun.is_closed:
            return out | _unless_directive(rules)
        return out | rules | {"additionalProperties": False}

    def _task(self) -> Schema:
        """What all types have, and by the type what only some have."""
        own, every = fields_of(Task), [fields_of(one) for one in TASK_TYPES.values()]
        shared = [key for key in own if all(one[key] == own[key] for one in every)]
        types = {"enum": [*TASK_TYPES, "", None]}
        chosen = []
        for name, noun in TASK_TYPES.items():
            special = {k: d for k, d in fields_of(noun).items() if k not in shared}
            required = [k for k, d in special.items() if d.spec.is_required]
            self.done[noun.__name__] = {
                "description": _said(noun),
                "properties": {key: self._field(d) for key, d in special.items()},
                **_unless_directive({"required": required} if required else {}),
            }
            chosen.append({"if": _is_of_type(name), "then": _like(noun.__name__)})
        # `tasks` tells a container, and not which.
        untold = [{"required": ["tasks"]}, *_told(None)]
        chosen.append({"if": {"allOf": untold}, "then": _unless_directive({"required": ["type"]})})
        return {
            "description": _said(Task),
            "properties": {key: self._field(own[key]) for key in shared}
            | {"type": {**types, "description": own["type"].spec.description, "default": "basic"}}
            | _DIRECTIVES,
            "allOf": chosen,
        }

    def _field(self, declared: Declared) -> Schema:
        spec = declared.spec
        out: Schema = {"description": spec.description}
        if spec.hint:
            out["description"] = f"{spec.description.rstrip('.')}: {spec.hint}."
        # The processor of a `wait` task needs no id (§3.8).
        needs_id = declared.name != "processor"
        kind = declared.kind
        if kind.form == "section":
            kind = Kind("noun", noun=SECTIONS[declared.key])
        out |= self._value(kind, is_optional=not spec.is_required, needs_id=needs_id)
        for limit, name in (
            (spec.ge, "minimum"),
            (spec.gt, "exclusiveMinimum"),
            (spec.le, "maximum"),
        ):
            if limit is not None:
                out[name] = limit
        if spec.min_length:
            names = {"text": "minLength", "list": "minItems", "map": "minProperties"}
            for form in declared.kind.forms or (declared.kind,):
                if form.form in names:
                    out[names[form.form]] = spec.min_length
        if spec.pattern:
            out["pattern"] = f"^(?:{spec.pattern})$"
            out["patternErrorMessage"] = f"Write {spec.hint}."
        if not spec.is_required and spec.default not in (None, "", [], {}):
            out["default"] = spec.default
        if spec.example is not None:
            out["examples"] = [spec.example]
        return out

    def _value(self, kind: Kind, *, is_optional: bool = False, needs_id: bool = True) -> Schema:
        """What a value may be. A directive may bring any, and null is as good as nothing."""
        if kind.form == "any":
            return {} if is_optional else {"not": {"type": "null"}}
        forms = kind.forms or (kind,)
        types = [name for form in forms for name in _TYPES[form.form]]
        maps = [form for form in forms if form.form in ("noun", "map")]
        out: Schema = {}
        for form in forms:
            out |= self._rules(form)
        if len(forms) > 1 and {"text", "duration"} <= {form.form for form in forms}:
            out["pattern"] = rf"{_DURATION}|\{{\{{"  # or a template of one
        if len(maps) == 1:
            out |= self._map(maps[0], needs_id=needs_id)
        elif maps:
            full = next(form for form in maps if form.noun is not Selector)
            only = {"required": ["id"], "maxProperties": 1, "type": "object"}
            out |= {"if": only, "then": self._map(maps[0]), "else": self._map(full)}
        elif self.directives:
            out |= _like("directive")
        types += [*(["object"] if self.directives else []), *(["null"] if is_optional else [])]
        if "enum" in out:
            named = {"enum": [*out.pop("enum"), *([None] if is_optional else [])]}
            return {"anyOf": [named, {"type": "object", **out}]} if out else named
        return {"type": list(dict.fromkeys(types)), **out}

    def _rules(self, form: Kind) -> Schema:
        """Of a text or a list; those for maps are apart."""
        match form.form:
            case "choice":
                return {"enum": list(form.choices)}
            case "duration":
                return {"pattern": _DURATION, "patternErrorMessage": _FORMS, "minimum": 0}
            case "size":
                return {"pattern": _SIZE, "patternErrorMessage": "Write `512MB` or `2GiB`."}
            case "list":
                assert form.item is not None
                return {"items": self._value(form.item)}
        return {}

    def _map(self, form: Kind, *, needs_id: bool = True) -> Schema:
        if form.noun is not None:
            return self.reference(form.noun) | (_NAMED if form.noun is Task and needs_id else {})
        inside = True if form.item is None else self._value(form.item)
        directives = {"properties": dict(self.directives)} if self.directives else {}
        return {**directives, "additionalProperties": inside}


def _like(name: str) -> Schema:
    """As a definition says. Beside a bare `$ref` editors forget what a field says of itself."""
    return {"allOf": [{"$ref": f"#/$defs/{name}"}]}


def _unless_directive(rules: Schema) -> Schema:
    """Rules for a map to which no directive adds anything."""
    if not rules:
        return {}
    return {"if": {"anyOf": [{"required": [key]} for key in _DIRECTIVES]}, "else": rules}


_NAMED = _unless_directive({"required": ["id"]})


def _is_of_type(name: str) -> Schema:
    stated = {"required": ["type"], "properties": {"type": {"const": name}}}
    if name in _TELLING or name == "basic":
        return {"anyOf": [stated, {"allOf": list(_told(name if name in _TELLING else None))}]}
    return stated


def _told(name: str | None) -> Iterator[Schema]:
    """That a task states no type, and that its keys tell this one; None for no one."""
    yield {"properties": {"type": {"enum": ["", None]}}}
    for other, key in _TELLING.items():
        if other == name:
            yield {"required": [key]}
            return
        yield {"not": {"required": [key]}}
