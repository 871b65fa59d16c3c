"""A resolved tree → typed nouns and the diagnostics of what does not fit.

What is faulty is reported and left out, and what is missing gets a stand-in, so that one mistake
hides no other. A noun that does not get its id, or cannot be built at all, is left in `broken`: a
name that may refer to it is not reported as unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from compozy_prefect.diagnostics import Diagnostic, SourceText, error
from compozy_prefect.language import misfits
from compozy_prefect.language.durations import parse_duration
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import (
    Declared,
    Kind,
    Noun,
    Selector,
    fields_of,
)
from compozy_prefect.language.models.knowledge import Embedder, KnowledgeBase, VectorDb
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.project import NamedSchema
from compozy_prefect.language.models.task import TASK_TYPES, Task
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import File, Mapping, Node, Scalar, Sequence
from compozy_prefect.language.scalars import plain_value

N = TypeVar("N", bound=Noun)

# The lists that names refer to. What stands in them is spoken of without the way there.
LISTS: dict[type[Noun], str] = {
    Agent: "agents",
    Embedder: "embedders",
    KnowledgeBase: "knowledge_bases",
    Mcp: "mcps",
    Memory: "memories",
    Model: "models",
    NamedSchema: "schemas",
    Task: "tasks",
    Tool: "tools",
    VectorDb: "vector_dbs",
}

# What a key says of the type of a task that does not state it (§3.1).
_TYPE_OF = {
    "routes": "router",
    "items": "collection",
    "wait_for": "wait",
    "signal": "signal",
    "operation": "memory",
}

# The directives that `references` resolves; one that is still there was reported.
_DIRECTIVES = ("$ref", "$use", "$merge")

_FAULTY: Final = object()


@dataclass(slots=True)
class Typed(Generic[N]):
    """A document as a noun.

    `noun` is None when something is missing that nothing can stand for; a project and a workflow
    can always be built. `broken` holds (list, id) of what could not be, with an empty id when it
    is not known.
    """

    noun: N | None
    broken: set[tuple[str, str]] = field(default_factory=set)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def typed(root: Mapping, kind: type[N]) -> Typed[N]:
    """The document of `root` as a `kind`, with what is faulty left out."""
    reader = _Reader()
    made = reader.named(kind, root, ())
    return Typed(None if made is _FAULTY else made, reader.broken, reader.found)


def read_text(declared: Declared, text: str, key: str) -> tuple[Any, list[Diagnostic]]:
    """The value of a field that was given as text beside the files, such as a variable.

    A list is its items with commas between them. The diagnostics have no place. The value is
    None where they hold an error.
    """
    file = File(SourceText(key, text))
    node: Node
    if declared.kind.form == "list":
        parts = [part.strip() for part in text.split(",") if part.strip()]
        node = Sequence(file, 0, len(text), tuple(_scalar(file, part) for part in parts))
    elif declared.kind.form == "bool" and text.strip().lower() in _BOOLEANS:
        node = Scalar(file, 0, len(text), _BOOLEANS[text.strip().lower()], "plain")
    elif declared.kind.form in ("text", "choice"):
        node = Scalar(file, 0, len(text), text, "single")
    else:
        node = _scalar(file, text.strip())
    reader = _Reader()
    path = tuple(key.split("."))
    value = reader._value(declared.kind, node, path)
    if value is not _FAULTY and not reader._is_allowed(declared, value, node, path[:-1]):
        value = _FAULTY
    found = [one._replace(span=None) for one in reader.found]
    return None if value is _FAULTY else value, found


_BOOLEANS = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


def _scalar(file: File, text: str) -> Scalar:
    try:
        value = plain_value(text)
    except ValueError:
        value = text
    return Scalar(file, 0, len(text), value, "plain")


Path = tuple[str | int, ...]


class _Reader:
    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self.broken: set[tuple[str, str]] = set()

    def noun(
        self, kind: type[N], node: Mapping, path: Path, preset: dict[str, Any] | None = None
    ) -> N | None:
        """The noun that a map says; None when something is missing that nothing can stand for.

        `preset` has the values of fields that the map need not say.
        """
        values = dict(preset or {})
        if kind is Task:
            chosen, values["type"] = self._task_type(node)
            kind = cast(type[N], chosen)
        entries = node.entries
        can_be_built = True
        misspelt: set[str | None] = set()
        for declared in fields_of(kind).values():
            item = entries.get(declared.key)
            value: Any = _FAULTY
            if declared.name == "type" and "type" in values:
                continue
            if item is None or (type(item) is Scalar and item.value is None):
                if declared.name in values:
                    continue
                if declared.spec.is_required and not any(key in entries for key in _DIRECTIVES):
                    self.found.append(misfits.missing(kind.called, declared, node))
                    misspelt.add(misfits.look_alike(declared, node))
            else:
                value = self._value(declared.kind, item, (*path, declared.key))
                if value is not _FAULTY and not self._is_allowed(declared, value, item, path):
                    value = _FAULTY
            if value is not _FAULTY:
                values[declared.name] = value
            elif declared.spec.is_required:
                values[declared.name] = value = _stand_in(declared.kind, node)
                can_be_built = can_be_built and kind is not Selector
                can_be_built = can_be_built and value is not _FAULTY
        if not kind.is_open and values.get("type") != "unknown":
            self._unknown_keys(kind, node, misspelt)
        values["node"] = node
        return kind(**values) if can_be_built else None

    def _unknown_keys(self, kind: type[Noun], node: Mapping, told: set[str | None]) -> None:
        known = {*fields_of(kind), *kind.refused}
        for key in node.entries:
            directive = key[:1] == "$" and not kind.is_closed
            if key not in known and not directive and key not in told:
                self.found.append(misfits.unknown_key(kind, key, sorted(fields_of(kind)), node))

    def _task_type(self, node: Mapping) -> tuple[type[Task], str]:
        """The class of a task, and its type; `unknown` for one that is reported here."""
        given = node.get("type")
        if given is None or (isinstance(given, Scalar) and given.value in (None, "")):
            inferred = next(
                (t for key, t in _TYPE_OF.items() if node.get(key) is not None), "basic"
            )
            meant = next((key for key, item in node.entries.items() if _is_type(key, item)), None)
            if meant is not None and node.entries[meant].data() != inferred:
                message, span = f"a task has no key `{meant}`", node.key_span(meant)
                self.found.append(error("CZ304", message, span, "did you mean `type`?"))
                return Task, "unknown"
            if inferred == "basic" and node.get("tasks") is not None:
                span, hint = node.key_span("tasks"), "add `type: parallel`, or `type: composite`"
                self.found.append(error("CZ304", "a task with `tasks` needs a `type`", span, hint))
                return Task, "unknown"
            return TASK_TYPES[inferred], inferred
        name = given.text if isinstance(given, Scalar) else ""
        if name in TASK_TYPES:
            return TASK_TYPES[name], name
        if not isinstance(given, Scalar):
            self.found.append(misfits.wrong_type("`type`", Kind("text"), given))
            return Task, "unknown"
        near = nearest(name, TASK_TYPES)
        listed = ", ".join(TASK_TYPES)
        hint = f"did you mean `{near}`? the types are {listed}" if near else f"types: {listed}"
        self.found.append(error("CZ304", f"unknown task type `{name}`", given.span, hint))
        return Task, "unknown"

    def _value(self, kind: Kind, node: Node, path: Path) -> Any:
        """The value of a node, or _FAULTY after its diagnostic."""
        match kind.form:
            case "any":
                return node.data()
            case "text":
                if type(node) is Scalar and type(node.value) is str:
                    return node.value
                # A number is taken as it is written: `version: 1.10` is "1.10".
                if type(node) is Scalar and type(node.value) in (int, float):
                    return node.text
            case "noun":
                assert kind.noun is not None
                if type(node) is Mapping:
                    return self.named(kind.noun, node, path)
            case "section":
                if type(node) is Mapping:
                    from compozy_prefect.language.models.settings import SECTIONS

                    return self.named(SECTIONS[str(path[-1])], node, path)
            case "list":
                assert kind.item is not None
                if type(node) is Sequence:
                    return self._list(kind.item, node, path)
            case "map":
                if type(node) is Mapping:
                    return node.data() if kind.item is None else self._map(kind.item, node, path)
            case "either":
                return self._either(kind, node, path)
            case "duration":
                return self._duration(node, path)
            case "int" | "float" | "bool":
                if type(node) is Scalar and type(node.value) in _SCALARS[kind.form]:
                    value: Any = node.value
                    return float(value) if kind.form == "float" else value
            case "choice":
                if type(node) is Scalar and type(node.value) in (str, int, float):
                    if node.value in kind.choices:
                        return node.value
                    self.found.append(misfits.not_a_choice(_subject(path), kind.choices, node))
                    return _FAULTY
            case "size":
                return self._size(node, path)
        self.found.append(misfits.wrong_type(_subject(path), kind, node))
        return _FAULTY

    def named(self, kind: type[Noun], node: Mapping, path: Path) -> Any:
        """A noun, or _FAULTY; one without the id it was given is noted as broken."""
        # The processor of a `wait` task needs no id (§3.8).
        preset = {"id": "processor"} if path[-1:] == ("processor",) else {}
        made = self.noun(kind, node, () if kind in LISTS else path, preset)
        if kind in LISTS:
            id_ = node.get("id")
            given = id_.text if isinstance(id_, Scalar) and id_.value is not None else ""
            optional = kind is Model or kind is Mcp
            if made is None or (not optional and getattr(made, "id", "") != given):
                self.broken.add((LISTS[kind], given))
        return _FAULTY if made is None else made

    def _list(self, kind: Kind, node: Sequence, path: Path) -> list[Any]:
        out = []
        for index, item in enumerate(node.items):
            listed = kind.form == "noun" and kind.noun in LISTS
            if listed and type(item) is not Mapping:
                assert kind.noun is not None
                self.found.append(misfits.wrong_type(kind.noun.called, kind, item))
                continue
            value = self._value(kind, item, (*path, index))
            if value is not _FAULTY:
                out.append(value)
        return out

    def _map(self, kind: Kind, node: Mapping, path: Path) -> dict[str, Any]:
        out = {}
        for key, item in node.entries.items():
            value = self._value(kind, item, (*path, key))
            if value is not _FAULTY:
                out[key] = value
        return out

    def _either(self, kind: Kind, node: Node, path: Path) -> Any:
        by_form = {form.form: form for form in kind.forms}
        if type(node) is Scalar and "duration" in by_form:
            is_template = isinstance(node.value, str) and "{{" in node.value
            return node.value if is_template else self._duration(node, path)
        if type(node) is Scalar and type(node.value) in (str, int, float) and "text" in by_form:
            return node.text
        if type(node) is Scalar and "choice" in by_form:
            return self._value(by_form["choice"], node, path)
        if type(node) is Sequence and "list" in by_form:
            return self._value(by_form["list"], node, path)
        if type(node) is Mapping and "map" in by_form:
            return self._value(by_form["map"], node, path)
        if type(node) is Mapping:
            nouns = [form for form in kind.forms if form.form == "noun"]
            is_selector = set(node.entries) == {"id"}
            for form in nouns:
                if (form.noun is Selector) == is_selector or len(nouns) == 1:
                    return self._value(form, node, path)
        self.found.append(misfits.wrong_type(_subject(path), kind, node))
        return _FAULTY

    def _duration(self, node: Node, path: Path) -> Any:
        try:
            seconds = parse_duration(node.data())
        except ValueError as fault:
            self.found.append(misfits.no_duration(_subject(path), fault, node))
            return _FAULTY
        if isinstance(node, Scalar) and type(node.value) in (int, float) and node.value:
            self.found.append(misfits.bare_seconds(str(path[-1]), node))
        return seconds

    def _size(self, node: Node, path: Path) -> Any:
        match = _SIZE.fullmatch(str(node.value).strip()) if isinstance(node, Scalar) else None
        if match is None:
            hint = "write `512MB` or `2GiB`"
            found = misfits.wrong_type(_subject(path), Kind("size"), node)
            self.found.append(found._replace(hint=hint))
            return _FAULTY
        return int(float(match[1]) * _BYTES[match[2].upper()])

    def _is_allowed(self, declared: Declared, value: Any, node: Node, path: Path) -> bool:
        spec = declared.spec
        subject = _subject((*path, declared.key))
        if spec.min_length and isinstance(value, (str, list, dict)) and not value:
            # What is in it was faulty, and was reported.
            is_left = isinstance(node, Sequence) and node.items
            if not (is_left or (isinstance(node, Mapping) and node.entries)):
                self.found.append(misfits.empty(subject, node))
            return False
        if spec.pattern and not re.fullmatch(spec.pattern, value):
            self.found.append(misfits.not_allowed(subject, spec.hint, node))
            return False
        if isinstance(value, (int, float)):
            for holds, bound in (
                (spec.ge is None or value >= spec.ge, f"at least {spec.ge}"),
                (spec.gt is None or value > spec.gt, f"more than {spec.gt}"),
                (spec.le is None or value <= spec.le, f"at most {spec.le}"),
            ):
                if not holds:
                    self.found.append(misfits.out_of_bounds(subject, bound, node))
                    return False
        return True


_SCALARS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?i?B?)", re.IGNORECASE)
_BYTES = {
    unit + suffix: 1024**power if suffix in ("IB", "I") else 1000**power
    for power, unit in enumerate(("", "K", "M", "G", "T"))
    for suffix in ("", "B", "I", "IB")
}


def _is_type(key: str, item: Node) -> bool:
    """Whether a key of a task is a misspelt `type`."""
    said = item.value if isinstance(item, Scalar) else None
    return said in TASK_TYPES and key != "type" and nearest(key, ("type",)) is not None


def _stand_in(kind: Kind, node: Mapping) -> Any:
    """A value for what is required and not there, so that the rest is checked."""
    match kind.form:
        case "text":
            return f"line-{node.span.line}-column-{node.span.column}"  # fits wherever an id does
        case "map":
            return {}
        case "list":
            return []
        case "any":
            return None
    return _FAULTY


def _subject(path: Path) -> str:
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{name.lstrip('.')}`"
