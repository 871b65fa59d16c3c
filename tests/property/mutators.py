"""Valid projects → every edit of a kind: an oracle of its own, which knows what each one breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from edits import Mutation, Source, misspelt

from compozy_prefect.compiler.checks.nouns import nouns
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import Template, parse, parse_condition
from compozy_prefect.language.models.base import Kind, Noun, Selector, fields_of
from compozy_prefect.language.models.project import NamedSchema
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

Mutator = Callable[[Source, Project], Iterator[Mutation]]

# Needed because of what else the map says: (a key and its value beside it, the key that is needed).
_NEEDED = (
    ("type", "http", "config", "base_url"),
    ("type", "javascript", "execute"),
    ("type", "collection", "task"),
    ("type", "redis", "ttl"),
    ("type", "hybrid_summary", "summary_tokens"),
    ("type", "pgvector", "config", "dsn"),
    ("operation", "append", "payload"),
    ("strategy", "hmac", "secret"),
    ("transport", "streamable-http", "url"),
    ("agent", None, "action"),
)
# Fields that hold the name of something that is defined elsewhere.
_TASKS = ("next", "on_timeout", "default", "default_route")
_NAMES = (*_TASKS, "agent", "action", "tool", "memory_ref", "model", "embedder", "vector_db")
_LISTS = ("tools", "mcps", "memory")
_SHAPES = ("input", "output", "schema")
_TYPES = ("string", "number", "integer", "boolean", "array", "object")
# What templates read that no file declares.
_OPEN = ("env", "signal", "payload", "headers", "query", "trigger", "processor")


def dropped(source: Source, project: Project) -> Iterator[Mutation]:
    for noun in _nouns(source, project):
        for name, declared in fields_of(type(noun)).items():
            if declared.spec.is_required and _has_own(noun, name):
                also: list[int] = []
                if name == "id" and isinstance(value := noun.node.get("id"), Scalar):
                    also = source.mentions(value.text)
                holder = source.holders.get(noun.node.start)
                if name != "id" or _text(holder) != "processor":  # which has one of its own
                    yield source.without("key dropped", noun.node, name, also)
    for path, node in source.nodes:
        if isinstance(node, Mapping) and "properties" not in path:
            yield from _needed(source, node)


def _needed(source: Source, node: Mapping) -> Iterator[Mutation]:
    for name, value, *keys in _NEEDED:
        beside = node.get(name)
        if beside is None or not (value is None or _text(beside) == value):
            continue
        if name == "agent" and (not isinstance(beside, Scalar) or "prompt" in node.entries):
            continue
        inner = node.at(*keys[:-1]) if len(keys) > 1 else node
        if isinstance(inner, Mapping) and keys[-1] in inner.entries:
            yield source.without(
                "key dropped", inner, keys[-1], [*source.around(node), beside.start]
            )


def misspelt_keys(source: Source, project: Project) -> Iterator[Mutation]:
    for noun in _nouns(source, project):
        known = fields_of(type(noun))
        for name in known if not noun.is_open else ():
            if _has_own(noun, name):
                key = noun.node.keys[name]
                wrong = misspelt(name, known)
                also = source.around(noun.node)
                if name == "id":
                    also += source.mentions(_text(noun.node.entries["id"]))
                what = f"`{name}` is `{wrong}`"
                yield source.edit("key misspelt", what, key.start, key.end, wrong, also)


def types(source: Source, project: Project) -> Iterator[Mutation]:
    for noun in _nouns(source, project):
        for name, declared in fields_of(type(noun)).items():
            if not _has_own(noun, name):
                continue
            value = noun.node.entries[name]
            for wrong in _wrong(declared.kind, value):
                also = [noun.node.keys[name].start]
                what = f"`{name}` is {wrong}"
                # A map or a list over several lines becomes one value.
                yield source.edit(
                    "type changed", what, value.start, source.stop(value), wrong, also
                )
            spec = declared.spec
            if isinstance(value, Scalar) and declared.kind.form in ("int", "float", "duration"):
                least = spec.ge if spec.ge is not None else spec.gt
                if least is not None:
                    what = f"`{name}` is too small"
                    yield source.edit("value changed", what, value.start, value.end, "-7")


def _wrong(kind: Kind, value: Node) -> list[str]:
    match kind.form:
        case "text":
            return ["[a, b]", "{a: b}"]
        case "int" | "float":
            return ["many", "[1]"]
        case "bool":
            return ["maybe", "[true]"]
        case "choice":
            return [misspelt(_text(value), kind.choices), "[a]"]
        case "duration":
            return ["5 parsecs", "{a: b}"]
        case "list" | "map" | "noun":
            return ["some text", "7"]
        case "either":
            forms = {form.form for form in kind.forms}
            return [] if forms & {"list", "any"} else ["[a, b]"]
    return []


def values(source: Source, _: Project) -> Iterator[Mutation]:
    wrong = {
        "cron": ['"every day"', '"61 * * * *"', '"0 9 * * 8-9"', '"@often"'],
        "timezone": ["Europe/Berlim"],
        "proto": ["yesterday"],
        "redact_patterns": ['["("]'],
        "base_url": ["not an address"],
        "url": ["nowhere"],
        "slug": ['"a b/c?"'],
    }
    for path, node in source.nodes:
        if isinstance(node, Mapping) and "properties" not in path:
            for name in wrong.keys() & node.entries.keys():
                value = node.entries[name]
                if name == "url" and path[:1] != ("mcps",):
                    continue
                for new in wrong[name]:
                    what = f"`{name}` is {new}"
                    yield source.edit("value changed", what, value.start, value.end, new)
            type_ = node.get("type")
            if _text(type_) in _TYPES and isinstance(type_, Scalar):
                new = misspelt(_text(type_))
                yield source.edit("type misspelt", new, type_.start, type_.end, new)


def references(source: Source, project: Project) -> Iterator[Mutation]:
    for noun in _nouns(source, project):
        for scalar in _named(noun):
            name = scalar.text
            if "{{" in name or not name or name.startswith("cp__"):
                continue
            start = scalar.start + (scalar.style in ("single", "double"))
            wrong = misspelt(name)
            yield source.edit("reference misspelt", wrong, start, start + len(name), wrong)
    for found in re.finditer(r"\$(?:ref|use):[^\n]*?[\"']([\w .:/-]+)[\"']\)", source.text):
        wrong = misspelt(found[1])
        yield source.edit("reference misspelt", wrong, *found.span(1), wrong)


def _named(noun: Noun, *only: str) -> Iterator[Scalar]:
    """Where a noun refers to others by name; in these fields, if any are given."""
    own = [
        (name, noun.node.entries[name]) for name in fields_of(type(noun)) if _has_own(noun, name)
    ]
    for name, value in own:
        if only and name not in only:
            continue
        if isinstance(value, Scalar) and isinstance(value.value, str):
            model = name == "model" and "provider" in noun.node.entries
            if name in _NAMES and not model and type(noun).__name__ != "TokenProvider":
                yield value
            if name in _SHAPES or (isinstance(noun, Selector) and name == "id"):
                yield value
        elif name in _LISTS and isinstance(value, Sequence):
            yield from (item for item in value.items if isinstance(item, Scalar))
        elif name == "routes" and isinstance(value, Mapping):
            yield from (item for item in value.entries.values() if isinstance(item, Scalar))
        elif name == "knowledge" and isinstance(value, Sequence):
            ids = (item.at("id") for item in value.items)
            yield from (item for item in ids if isinstance(item, Scalar))


def definitions(source: Source, project: Project) -> Iterator[Mutation]:
    """The id of what something else refers to."""
    kinds = ("Agent", "Action", "Tool", "Mcp", "Memory", "NamedSchema", "Embedder", "VectorDb")
    used = {scalar.text for noun in nouns(project, Noun) for scalar in _named(noun)}
    selected = set(re.findall(r"(?:==\s*[\"']|validateSchema\(')([\w-]+)", source.text))
    led_to = {one.text for noun in nouns(project, Noun) for one in _named(noun, *_TASKS, "routes")}
    led_to |= set(re.findall(r"\btasks\.([\w-]+)", source.text))
    for noun in _nouns(source, project):
        name = getattr(noun, "id", None)
        task = type(noun).__name__.endswith("Task")
        known = led_to if task else used if type(noun).__name__ in kinds else set()
        if name and name in known | selected and _has_own(noun, "id"):
            node = noun.node.entries["id"]
            wrong = misspelt(name, used)
            also = source.mentions(name)
            made = source.edit("id misspelt", wrong, node.start, node.end, wrong, also)
            yield made._replace(name=name)


def duplicates(source: Source, project: Project) -> Iterator[Mutation]:
    for path, node in source.nodes:
        if isinstance(node, Mapping):
            for name, value in node.entries.items():
                key = node.keys[name]
                text = source.text[key.start : source.stop(value)]
                if text and "\n" not in text:  # what an alias stands for is elsewhere
                    flow = source.text[node.start] == "{"
                    column = key.start - (source.text.rfind("\n", 0, key.start) + 1)
                    again = f"{text}, " if flow else f"{text}\n{' ' * column}"
                    yield source.edit("key twice", name, key.start, key.start, again, [key.start])
        elif isinstance(node, Sequence) and path[-1:] in (("tasks",), ("agents",), ("tools",)):
            ids = [item.get("id") for item in node.items if isinstance(item, Mapping)]
            given = [one for one in ids if isinstance(one, Scalar)]
            for one, other in pairwise(given):
                also = [one.start, *source.mentions(other.text)]
                yield source.edit("id twice", one.text, other.start, other.end, one.text, also)


def order(source: Source, _: Project) -> Iterator[Mutation]:
    for path, node in source.nodes:
        if path[-1:] != ("tasks",) or not isinstance(node, Sequence):
            continue
        above = source.root.at(*path[:-1])
        kind = _text(above.get("type")) if isinstance(above, Mapping) and len(path) > 1 else ""
        if kind in ("parallel", "collection"):
            continue
        items = [item for item in node.items if isinstance(item, Mapping)]
        follows = any("next" in str(item.at("on_success").data()) for item in items) and not kind
        for one, other in pairwise(items):
            first = source.text[one.start : source.stop(one)]
            second = source.text[other.start : source.stop(other)]
            reads = list(re.finditer(rf"\btasks\.{re.escape(_text(one.get('id')))}\b", second))
            if not reads or "$ref: 'local::tasks" in first + second:
                continue
            between = source.text[source.stop(one) : other.start]
            new = second + between + first
            made = source.edit("order swapped", "", one.start, source.stop(other), new)
            base = source.text[: one.start].count("\n") + 1
            lines = {base + second[: read.start()].count("\n") for read in reads}
            lines |= {base, base + (second + between).count("\n")}
            starts = follows and one is items[0]  # the first of the list is where a run begins
            if starts:
                mentions = re.finditer(rf"\btasks\.{re.escape(_text(one.get('id')))}\b", made.text)
                lines |= {made.text.count("\n", 0, found.start()) + 1 for found in mentions}
            what = f"{_text(one.get('id'))} after {_text(other.get('id'))}"
            yield made._replace(lines=frozenset(lines), what=what, breaks=starts or not follows)


def templates(source: Source, _: Project) -> Iterator[Mutation]:
    for path, node in source.nodes:
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            continue
        bare = path[-1:] in (("condition",), ("filter",)) and "{{" not in node.value
        if "{{" not in node.value and not bare:
            continue
        try:
            template = parse_condition(node.value) if bare else parse(node.value)
        except TemplateError:
            continue
        yield from _in_template(source, node, template, path)


def _in_template(
    source: Source, node: Scalar, template: Template, path: tuple[str | int, ...]
) -> Iterator[Mutation]:
    text = str(node.value)

    # Where a text over several lines stops to make sense is seen in another one.
    breaks = re.finditer("\n", source.text[node.start : source.stop(node)])
    lines = [node.start + found.end() for found in breaks]

    def edit(kind: str, start: int, end: int, new: str, also: list[int] | None = None) -> Mutation:
        begin, stop = node.span_of(start, end), node.span_of(start, end)
        first = source.offset(begin)
        last = source.offset(stop._replace(line=stop.end_line, column=stop.end_column))
        what = f"{text[start:end]} → {new}"
        return source.edit(kind, what, first, last, new, [*(also or ()), *lines])

    if "{{" in text:
        yield edit("template broken", text.index("}}"), text.index("}}") + 2, "")
        yield edit("template broken", text.index("{{") + 2, text.index("{{") + 2, " |")
        closed = re.search(r"\)[^(){}]*\}\}", text)
        if closed:
            yield edit("template broken", closed.start(), closed.start() + 1, "")
        block = re.search(r"\{\{-? *end *-?\}\}", text)
        if block:
            yield edit("template broken", *block.span(), "")
    quote = re.search(r"\('", text)
    if quote and node.style != "single":
        yield edit("template broken", quote.end() - 1, quote.end(), "")
    for use in template.uses:
        found = re.compile(rf"(?<![\w.]){re.escape(use.name)}\b").search(text, use.start, use.end)
        if found and use.name.isalpha():
            yield edit("function misspelt", *found.span(), misspelt(use.name))
        if found and use.name == "validateSchema":
            name = text.index(use.texts[-1], found.end())
            yield edit(
                "reference misspelt", name, name + len(use.texts[-1]), misspelt(use.texts[-1])
            )
    for read in template.reads:
        root = read.segments[0]
        if root in _OPEN:
            continue
        for at, segment in enumerate(read.segments):
            start = read.starts[at] + (text[read.starts[at]] == ".")
            if not isinstance(segment, str) or text[start : start + len(segment)] != segment:
                continue
            if at > 1 and "payload" in read.segments[:at]:
                break  # what a signal brings is declared nowhere
            kind = "variable misspelt" if at == 0 else "field misspelt"
            if root == "tasks" and at == 1:
                kind = "task misspelt"
            also = source.mentions(segment) if at > 1 else []
            yield edit(kind, start, start + len(segment), misspelt(segment), also)


def names_of_data(source: Source, project: Project) -> Iterator[Mutation]:
    """Keys of `with` and `outputs`, properties of schemas and values of `enum` that are read."""
    for path, node in source.nodes:
        if not isinstance(node, Mapping) or len(path) < 2:
            continue
        above = source.root.at(*path[:-1])
        for name in node.entries:
            if path[-1] in ("with", "outputs") and isinstance(above, Mapping):
                kind, reads = "value misspelt", _reads_of(source, above, str(path[-1]), name)
            elif path[-1] == "properties":
                # One that is described twice, or given by a task too, may be meant elsewhere.
                found = re.finditer(rf"\.{re.escape(name)}\b", source.text)
                read = [one.start() for one in found] if source.described[name] == 1 else []
                kind, reads = "property misspelt", read
            else:
                continue
            if reads:
                key = node.keys[name]
                start = key.start + (key.style in ("single", "double"))
                wrong = misspelt(name, node.entries)
                also = [*reads, *source.around(node), *source.mentions(name)]
                what = f"`{name}` is `{wrong}`"
                made = source.edit(kind, what, start, start + len(name), wrong, also)
                yield made._replace(name=name)
        enum = node.get("enum")
        for item in enum.items if isinstance(enum, Sequence) else ():
            value = re.escape(_text(item))
            compared = re.finditer(rf"[!=]= ?[\"']{value}[\"']", source.text)
            if also := [one.start() for one in compared]:
                wrong = misspelt(_text(item))
                yield source.edit("enum misspelt", wrong, item.start, item.end, wrong, also)


def _reads_of(source: Source, task: Mapping, held: str, name: str) -> list[int]:
    """Where a value of a task's `with` or `outputs` is read, by the task itself or by others."""
    if re.search(rf"\b(?:item|index)_var: {re.escape(name)}\b", source.text):
        return []  # without it the item of that name is meant
    id_, key = re.escape(_text(task.get("id"))), re.escape(name)
    found = list(re.finditer(rf"\b(?:tasks|output)\.{id_}\.(?:\w+\.)?{key}\b", source.text))
    inside = re.compile(rf"\.(?:with|input)\.{key}\b")
    if held == "outputs":
        return [one.start() for one in found]
    found += inside.finditer(source.text, task.start, task.end)
    action = _text(task.get("action"))
    for _, node in source.nodes if action else ():
        if (
            isinstance(node, Mapping)
            and "prompt" in node.entries
            and _text(node.get("id")) == action
        ):
            found += inside.finditer(source.text, node.start, node.end)
    return [one.start() for one in found]


MUTATORS: tuple[Mutator, ...] = (
    dropped,
    misspelt_keys,
    types,
    values,
    references,
    definitions,
    duplicates,
    order,
    templates,
    names_of_data,
)


def _nouns(source: Source, project: Project) -> list[Noun]:
    """The nouns that are written in a file, in its order."""
    found = [noun for noun in nouns(project, Noun) if noun.node.source.name == source.file]
    found = [noun for noun in found if not isinstance(noun, NamedSchema) or "id" in noun.given]
    return sorted(found, key=lambda noun: (noun.node.start, type(noun).__name__))


def _has_own(noun: Noun, name: str) -> bool:
    """Whether a key and its value are written in the noun, and not where it refers to."""
    node = noun.node
    if name not in node.entries:
        return False
    key, value = node.keys[name], node.entries[name]
    inside = node.start <= key.start and value.end <= node.end and key.start < value.start
    return inside and value.file is node.file and key.file is node.file


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
