"""A JSON Schema and a seed → a value that fits it, always the same one.

The offline model and the mock provider answer with it. The value is made top down, each keyword
narrowing what is made; where a schema offers a choice (`anyOf`, `if`), the first choice whose
value validates is taken. A schema that only a solver could satisfy gives the nearest try.
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compozy_prefect.compiler.canonical import Json, canonical
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.llm.patterns import matching

Path = tuple[Any, ...]  # names and indices from the root of the value

_DEEP = 6  # levels after which optional properties and items are left out
_DEEPEST = 24  # levels after which a required recursion is given up
_CHECKS = 300  # validations that one value may cost; then the first try stands
_LONGEST = 100_000  # characters of a string, whatever a schema asks for
_SHORT = 60  # characters of an input's text that are woven in


def sample(schema: Json, seed: str, texts: Sequence[str] = ()) -> Json:
    """A value for `schema`: the same for the same arguments, on every machine.

    `texts` are words of the caller that strings are made from, the first one foremost.
    """
    schema = schemas.plain(schema)
    maker = _Maker(schema, seed, tuple(text for text in map(_short, texts) if text))
    first: Json = None
    for sparse in (False, True):
        maker.sparse = sparse
        value = maker.value(schema, ())
        if schemas.fits(value, schema):
            return value
        first = first if sparse else value
    return first


def texts_of(value: Json) -> list[str]:
    """The words in a value, in its order: texts of some length, no links and no markup."""
    found: list[str] = []
    stack = [value]
    while stack and len(found) < 8:
        item = stack.pop(0)
        if isinstance(item, str) and 0 < len(item.strip()) <= 500 and "://" not in item:
            found.append(item)
        elif isinstance(item, dict):
            stack[:0] = list(item.values())[:20]
        elif isinstance(item, list):
            stack[:0] = item[:20]
    return found


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHORT else text[: _SHORT - 1].rstrip() + "…"


class _Maker:
    def __init__(self, root: Json, seed: str, texts: tuple[str, ...]) -> None:
        self.root = root
        self.seed = seed
        self.texts = texts
        self.sparse = False  # only what is required
        self.checks = 0
        checker = schemas.validator(root)
        self.checker = None if isinstance(checker, str) else checker

    def number(self, path: Path, salt: str = "") -> int:
        """64 bits that depend on the seed and the place."""
        text = "\0".join((self.seed, salt, *map(str, path)))
        return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")

    def fits(self, value: Json, schema: Json) -> bool:
        """Whether a part fits its part of the schema; True when that cannot be said any more."""
        self.checks += 1
        if self.checker is None or self.checks > _CHECKS:
            return True
        try:
            return bool(self.checker.evolve(schema=schema).is_valid(value))
        except Exception:  # a reference that leads nowhere, a pattern that is none
            return True

    def value(self, schema: Json, path: Path) -> Json:
        if schema is True or schema == {}:
            return self.text({}, path)
        if not isinstance(schema, dict) or len(path) > _DEEPEST:
            return None
        first: list[Json] = []
        for flat in self.choices(schema):
            for value in self.candidates(flat, path):
                if self.fits(value, schema):
                    return value
                first = first or [value]
        return first[0] if first else None

    def choices(self, schema: dict[str, Json], depth: int = 0) -> Iterator[dict[str, Json]]:
        """The schema without `$ref`, `allOf`, `anyOf`, `oneOf` and `if`, one for each choice."""
        if depth > 20:
            yield schema
            return
        for key in ("$ref", "$dynamicRef"):
            if key in schema:
                target = self.resolve(schema[key])
                rest = {name: item for name, item in schema.items() if name != key}
                yield from self.choices(merge(target, rest), depth + 1)
                return
        if isinstance(schema.get("allOf"), list):
            rest = {name: item for name, item in schema.items() if name != "allOf"}
            for part in schema["allOf"]:
                # What a part leaves open stays a list of its own, so that no choice gets lost.
                rest = merge(rest, part)
            yield from self.choices(rest, depth + 1)
            return
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list):
                rest = {name: item for name, item in schema.items() if name != key}
                for branch in schema[key]:
                    if branch is not False:
                        yield from self.choices(merge(rest, branch), depth + 1)
                return
        if "if" in schema:
            rest = {name: item for name, item in schema.items() if name not in _CONDITION}
            both = merge(schema["if"], schema.get("then", True))
            yield from self.choices(merge(rest, both), depth + 1)
            yield from self.choices(merge(rest, schema.get("else", True)), depth + 1)
        yield schema

    def resolve(self, reference: Json) -> Json:
        """What a reference within the schema points at; `{}` for any other."""
        target = self.root
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        for part in reference[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and part in target:
                target = target[part]
            elif isinstance(target, list) and part.isdigit() and int(part) < len(target):
                target = target[int(part)]
            else:
                return {}
        return target

    def candidates(self, schema: dict[str, Json], path: Path) -> Iterator[Json]:
        """Values for a schema without choices, the most telling first."""
        if "const" in schema:
            yield schema["const"]
            return
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            allowed = schema["enum"]
            # The place in a list is added, so that neighbours differ.
            start = self.number(path[:-1]) + path[-1] if _index(path) else self.number(path)
            for step in range(len(allowed)):
                yield allowed[(start + step) % len(allowed)]
            return
        if "default" in schema and not _index(path):
            yield schema["default"]
        examples = schema.get("examples")
        if isinstance(examples, list) and examples:
            start = path[-1] if _index(path) else 0
            for step in range(len(examples)):
                yield examples[(start + step) % len(examples)]
        for kind in _types(schema):
            yield from _MAKERS[kind](self, schema, path)

    def text(self, schema: dict[str, Json], path: Path) -> str:
        """A sentence about the place: its name and the first words of the input."""
        names = [part for part in path if isinstance(part, str)]
        name = re.sub(r"[_\W]+", " ", names[-1]).strip() if names else ""
        about = self.texts[0] if self.texts else ""
        if re.search(r"\b(greeting|hello|welcome|salutation)\b", name.lower()):
            text = f"Hello, {about or 'there'}! (offline)"
        elif name and about:
            text = f"{name[:1].upper()}{name[1:]}: {about} (offline)"
        else:
            text = f"{name or about or 'answer'} (offline)"
        if _index(path):
            text = f"{text[: -len(' (offline)')]} {path[-1] + 1} (offline)"
        return text

    def strings(self, schema: dict[str, Json], path: Path) -> Iterator[str]:
        low, high = _count(schema, "minLength", 0), _count(schema, "maxLength", None)
        low = min(low or 0, _LONGEST)
        number = self.number(path)
        form = _FORMATS.get(str(schema.get("format")))
        if form:
            yield form(number)
        if isinstance(schema.get("pattern"), str):
            # Three lengths of what repeats: as little as can be, a little, and as the bounds ask.
            for extra in (1, 0, low, 3):
                made = matching(schema["pattern"], number, extra)
                if made is not None:
                    yield made
        text = self.text(schema, path)
        if high is not None and len(text) > high:
            short = self.texts[0] if self.texts and len(self.texts[0]) <= high else text
            text = short[:high]
        if len(text) < low:
            text = (f"{text or 'offline'} " * low)[:low] if low > 400 else text.ljust(low, ".")
        yield text[:high]
        yield from ("offline", "Offline", f"{number % 1000}", "a", "A1", "")

    def numbers(self, schema: dict[str, Json], path: Path) -> Iterator[Json]:
        whole = "integer" in _types(schema)[:1]
        low, high = _bounds(schema, whole, _unit(path))
        number = self.number(path[:-1] if _index(path) else path)
        step = schema.get("multipleOf")
        if isinstance(step, (int, float)) and step > 0:
            first = math.ceil(low / step)
            room = max(0, math.floor(high / step) - first)
            for at in (number % (min(room, 20) + 1), 0, 1):
                yield (first + at + (path[-1] if _index(path) else 0)) * step
        if whole:
            least, most = math.ceil(low), math.floor(high)
            room = most - least + 1
            place = number + (path[-1] if _index(path) else 0)
            yield least + place % room if room > 0 else least
            yield least
            yield most
            return
        share = ((number % 89 + 6) + (path[-1] if _index(path) else 0)) % 100 / 100
        exact = low + (high - low) * share
        yield round(exact, 2)
        yield exact
        yield low
        yield high
        yield low + (high - low) * 0.12345

    def booleans(self, schema: dict[str, Json], path: Path) -> Iterator[bool]:
        first = (self.number(path[:-1]) + path[-1] if _index(path) else self.number(path)) % 2 == 0
        yield first
        yield not first

    def nulls(self, schema: dict[str, Json], path: Path) -> Iterator[None]:
        yield None

    def arrays(self, schema: dict[str, Json], path: Path) -> Iterator[list[Json]]:
        fixed = schema.get("prefixItems")
        fixed = fixed if isinstance(fixed, list) else []
        low = _count(schema, "minItems", 0) or 0
        high = _count(schema, "maxItems", None)
        wanted = max(low, len(fixed) if not self.sparse else 0)
        if not self.sparse and len(path) < _DEEP:
            wanted = max(wanted, 2)
        rest = schema.get("items", True)
        if rest is False:
            wanted = min(wanted, max(len(fixed), low))
        contained = schema.get("contains")
        if contained is not None:
            need = _count(schema, "minContains", 1) or 0
            wanted = max(wanted, need)
        for size in dict.fromkeys((wanted, low, 0)):
            size = size if high is None else min(size, high)
            items: list[Json] = []
            for n in range(min(size, 1000)):
                of_one = fixed[n] if n < len(fixed) else rest
                if contained is not None and len(fixed) <= n < len(fixed) + need:
                    of_one = merge(of_one, contained)
                item = self.value(of_one, (*path, n))
                if schema.get("uniqueItems") is True:
                    again = 0
                    while any(canonical(item) == canonical(one) for one in items) and again < 20:
                        again += 1
                        item = self.value(of_one, (*path, n + again))
                items.append(item)
            yield items

    def objects(self, schema: dict[str, Json], path: Path) -> Iterator[dict[str, Any]]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = [name for name in schema.get("required") or [] if isinstance(name, str)]
        names = list(required)
        if not self.sparse and len(path) < _DEEP:
            names = [name for name, of_one in properties.items() if of_one is not False]
            names += [name for name in required if name not in names]
        for chosen in dict.fromkeys((tuple(names), tuple(required))):
            out = {name: self.value(self.of(schema, name), (*path, name)) for name in chosen}
            self.dependents(schema, out, path)
            most = _count(schema, "maxProperties", None)
            for name in list(out):
                if most is not None and len(out) > most and name not in required:
                    del out[name]
            self.filled(schema, out, path)
            # In the order of the schema, which is the order somebody wrote to be read.
            order = {name: n for n, name in enumerate(properties)}
            yield dict(sorted(out.items(), key=lambda item: order.get(item[0], len(order))))

    def dependents(self, schema: dict[str, Json], out: dict[str, Json], path: Path) -> None:
        needs = schema.get("dependentRequired")
        for name, others in (needs if isinstance(needs, dict) else {}).items():
            for other in others if name in out else ():
                if other not in out:
                    out[other] = self.value(self.of(schema, other), (*path, other))

    def filled(self, schema: dict[str, Json], out: dict[str, Json], path: Path) -> None:
        """Properties nobody named, as far as the schema asks for a number of them."""
        least = min(_count(schema, "minProperties", 0) or 0, 200)
        names = [*(schema.get("properties") or {})]
        for pattern in schema.get("patternProperties") or {}:
            names += [matching(pattern, self.number((*path, n)), n % 4) or "" for n in range(least)]
        name_of = schema.get("propertyNames")
        if isinstance(name_of, dict):
            names += [str(self.value({"type": "string", **name_of}, (*path, n))) for n in range(9)]
        names += [f"extra_{n + 1}" for n in range(least)]
        for name in names:
            if len(out) >= least:
                return
            of_one = self.of(schema, name)
            if name not in out and of_one is not False:
                out[name] = self.value(of_one, (*path, name))

    def of(self, schema: dict[str, Json], name: str) -> Json:
        """The schema that the property `name` has to fit."""
        found: Json = True
        listed = False
        properties = schema.get("properties")
        if isinstance(properties, dict) and name in properties:
            found, listed = properties[name], True
        for pattern, of_one in (schema.get("patternProperties") or {}).items():
            try:
                if re.search(pattern, name):
                    found, listed = merge(found, of_one), True
            except re.error:
                continue
        return found if listed else schema.get("additionalProperties", True)


_CONDITION = ("if", "then", "else")
_MAKERS: dict[str, Callable[[_Maker, dict[str, Json], Path], Iterator[Any]]] = {
    "object": _Maker.objects,
    "array": _Maker.arrays,
    "string": _Maker.strings,
    "integer": _Maker.numbers,
    "number": _Maker.numbers,
    "boolean": _Maker.booleans,
    "null": _Maker.nulls,
}
_HINTS = (
    ("object", ("properties", "required", "additionalProperties", "minProperties")),
    ("object", ("patternProperties", "propertyNames", "dependentRequired", "maxProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems")),
    ("string", ("minLength", "maxLength", "pattern", "format")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)
_FORMATS: dict[str, Callable[[int], str]] = {
    "email": lambda n: f"offline-{n % 1000}@example.com",
    "date-time": lambda n: f"2025-{n % 12 + 1:02}-{n % 28 + 1:02}T{n % 24:02}:{n % 60:02}:00Z",
    "date": lambda n: f"2025-{n % 12 + 1:02}-{n % 28 + 1:02}",
    "time": lambda n: f"{n % 24:02}:{n % 60:02}:00Z",
    "duration": lambda n: f"PT{n % 59 + 1}M",
    "uri": lambda n: f"https://example.com/offline/{n % 1000}",
    "url": lambda n: f"https://example.com/offline/{n % 1000}",
    "uri-reference": lambda n: f"/offline/{n % 1000}",
    "uuid": lambda n: str(uuid.UUID(int=(n << 64 | n) & ~(0xF << 76) | 4 << 76, version=4)),
    "hostname": lambda n: f"host-{n % 1000}.example.com",
    "ipv4": lambda n: f"192.0.2.{n % 254 + 1}",  # addresses for documentation, never routed
    "ipv6": lambda n: f"2001:db8::{n % 0xFFFF:x}",
}


def merge(one: Json, other: Json) -> Json:
    """A schema that asks what both ask, as far as keywords can be joined."""
    if one is False or other is False:
        return False
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if isinstance(one, dict) else other
    out = dict(one)
    for key, item in other.items():
        if key not in out:
            out[key] = item
        elif out[key] != item:
            _join(out, key, out[key], item)
    return out


def _join(out: dict[str, Json], key: str, a: Json, b: Json) -> None:
    if key == "properties":
        out[key] = {name: merge(a.get(name, True), b.get(name, True)) for name in {**a, **b}}
    elif key == "required":
        out[key] = list(dict.fromkeys([*a, *b]))
    elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
        out[key] = max(a, b)
    elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
        out[key] = min(a, b)
    elif key == "enum":
        out[key] = [item for item in a if item in b] or a
    elif key == "type":
        first, second = (x if isinstance(x, list) else [x] for x in (a, b))
        common = [x for x in first if x in second]
        if not common and "integer" in (*first, *second) and "number" in (*first, *second):
            common = ["integer"]
        out[key] = common or a
    elif key in ("items", "additionalProperties", "propertyNames"):
        out[key] = merge(a, b)
    elif key in ("$defs", "definitions", "patternProperties"):
        out[key] = {**a, **b}
    elif key in ("anyOf", "oneOf", "allOf"):
        # Two lists of choices: the second waits in an `allOf`, which is taken apart first.
        out["allOf"] = [*(out.get("allOf") or []), {key: a}, {key: b}] if key != "allOf" else a + b
        if key != "allOf":
            del out[key]
    elif key in ("default", "examples", "description", "title"):
        out[key] = b


def _types(schema: dict[str, Json]) -> list[str]:
    """The types to try, null last."""
    given = schema.get("type")
    names = given if isinstance(given, list) else [given]
    known = [name for name in names if isinstance(name, str) and name in _MAKERS]
    if known:
        return sorted(known, key=lambda name: name == "null")
    hinted = [kind for kind, keys in _HINTS if any(key in schema for key in keys)]
    return list(dict.fromkeys([*hinted, "string", "number", "boolean", "null", "object", "array"]))


def _index(path: Path) -> bool:
    return bool(path) and isinstance(path[-1], int)


def _count(schema: dict[str, Json], key: str, default: int | None) -> int | None:
    value = schema.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value)
    return default


def _unit(path: Path) -> bool:
    """Whether a place by this name holds a share between 0 and 1."""
    name = str(path[-1]).lower() if path else ""
    return bool(re.search(r"confidence|probability|ratio|score|likelihood|relevance", name))


def _bounds(schema: dict[str, Json], whole: bool, unit: bool) -> tuple[float, float]:
    """What a number lies between, both ends allowed."""
    tiny = 1 if whole else 1e-6
    lows = [schema["minimum"]] if isinstance(schema.get("minimum"), (int, float)) else []
    highs = [schema["maximum"]] if isinstance(schema.get("maximum"), (int, float)) else []
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, (int, float)) and not isinstance(above, bool):
        lows.append(math.floor(above) + 1 if whole else above + max(tiny, abs(above) * tiny))
    if isinstance(below, (int, float)) and not isinstance(below, bool):
        highs.append(math.ceil(below) - 1 if whole else below - max(tiny, abs(below) * tiny))
    span = 1 if unit and not whole else 100
    if lows:
        low = max(lows)
        return low, min(highs) if highs else low + span
    if highs:
        high = min(highs)
        return (0 if high >= 0 else high - span), high
    return (1 if whole else 0), span
