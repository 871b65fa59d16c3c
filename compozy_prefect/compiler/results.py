"""A function and the shapes of its arguments → the shape of its result (language.md §11.6).

Most functions have one kind of result whatever they get. Those on lists and maps keep what is
known of the elements, and report keys that no element can have (CZ503).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from compozy_prefect.compiler.comparisons import impossible, never_equal, never_in
from compozy_prefect.compiler.env import Argument, Env, Finding, dotted, known_key
from compozy_prefect.compiler.values import (
    ANY_MAP,
    BOOLEAN,
    NUMBER,
    TEXT,
    UNKNOWN,
    Layers,
    Shape,
    Stop,
    either,
    element,
    list_of,
    map_of,
    member,
)
from compozy_prefect.expressions.functions import FUNCTIONS
from compozy_prefect.expressions.nodes import Call, Literal

Given = TypeVar("Given")

_LIST = list_of(UNKNOWN)


def _each(names: str, given: Given) -> dict[str, Given]:
    return dict.fromkeys(names.split(), given)


# What they give whatever they get.
CONSTANT: Mapping[str, Shape] = {
    **_each(
        "empty all any bool isAbs osIsAbs regexMatch mustRegexMatch contains hasPrefix hasSuffix "
        "hasKey kindIs typeIs typeIsLike deepEqual semverCompare",
        BOOLEAN,
    ),
    **_each(
        "add add1 sub mul div mod add1f addf subf mulf divf max min biggest maxf minf floor ceil "
        "round sum avg variance length len atoi int int64 float64 toDecimal toNumber randInt",
        NUMBER,
    ),
    **_each(
        "now date dateInZone date_in_zone ago duration durationRound unixEpoch htmlDate "
        "htmlDateInZone html htmlEscape htmlAttrEscape js jsEscape urlquery b64enc b64dec b32enc "
        "b32dec sha1sum sha256sum sha512sum adler32sum printf print println toJson mustToJson "
        "toRawJson mustToRawJson toPrettyJson mustToPrettyJson join seq randAlphaNum randAlpha "
        "randNumeric randAscii shuffle uuidv4 env expandenv base osBase clean osClean dir osDir "
        "ext osExt urlJoin regexFind mustRegexFind regexReplaceAll mustRegexReplaceAll "
        "regexReplaceAllLiteral mustRegexReplaceAllLiteral regexQuoteMeta trim trimAll trimall "
        "trimSuffix trimPrefix upper lower title untitle swapcase repeat substr trunc nospace "
        "initials quote squote cat indent nindent replace plural abbrev abbrevboth kindOf typeOf "
        "toString camelcase snakecase kebabcase wrap wrapWith",
        TEXT,
    ),
    **_each(
        "keys toStrings sortAlpha splitList regexFindAll mustRegexFindAll regexSplit "
        "mustRegexSplit",
        list_of(TEXT),
    ),
    **_each("until untilStep", list_of(NUMBER)),
    **_each("values pluck", _LIST),
    # Maps that a function made may still be changed, by `set` for example.
    **_each(
        "dict set unset omit pick merge mustMerge mergeOverwrite mustMergeOverwrite urlParse",
        ANY_MAP,
    ),
    **_each("split splitn", map_of({}, rest=TEXT)),
}


class Used(NamedTuple):
    """A call with its arguments in prefix order. `guarded`: what is missing reads as null."""

    node: Call
    args: Sequence[Argument]
    env: Env
    guarded: bool

    @property
    def first(self) -> Shape:
        return self.args[0].shape if self.args else UNKNOWN

    @property
    def last(self) -> Shape:
        return self.args[-1].shape if self.args else UNKNOWN


def result(
    node: Call, args: list[Argument], piped: Argument | None, env: Env, guarded: bool
) -> Shape:
    """The shape of what a call gives; UNKNOWN of a function that nothing is known of."""
    constant = CONSTANT.get(node.name)
    special = SPECIAL.get(node.name)
    if special is None:
        return constant or UNKNOWN
    arranged = args if piped is None else _arranged(node, args, piped)
    if arranged is None or not FUNCTIONS[node.name].takes(len(arranged)):
        return UNKNOWN  # another check says how many it takes
    return special(Used(node, arranged, env, guarded))


def _arranged(node: Call, args: list[Argument], piped: Argument) -> list[Argument] | None:
    """The arguments in prefix order, as `functions.arrange` puts values; None if unsure."""
    subject = FUNCTIONS[node.name].subject
    if subject == "first":
        return [piped, *args]
    if subject == "last":
        return [*args, piped]
    subjects = {"array", "object"} | ({"string"} if "lice" in node.name else set())
    kinds, next_to = piped.shape.kinds, args[0].shape.kinds if args else frozenset({"null"})
    if not next_to or next_to & subjects:
        return None
    # A value of which nothing is known is the subject, since the other one cannot be.
    if not kinds or kinds <= subjects:
        return [piped, *args]
    return None if kinds & subjects else [*args, piped]


def _same(used: Used) -> Shape:
    """A list with the elements of the last argument."""
    return list_of(element(used.last))


def _keyed(used: Used) -> Shape:
    """`sort`, `unique` and `group`, perhaps by a key."""
    source, rest = _subject(used)
    if rest and isinstance(key := rest[0].node, Literal) and isinstance(key.value, str):
        is_direction = key.value.lower() in ("asc", "ascending", "desc", "descending")
        if not is_direction:
            _reached(source, key, key.value, used)
    # What a function made may still be changed, by `set` for example.
    return ANY_MAP if used.node.name == "group" else list_of(element(source.shape))


def _subject(used: Used) -> tuple[Argument, Sequence[Argument]]:
    """The list and the other arguments: it stands last if what stands first is none."""
    args = used.args
    kinds = args[0].shape.kinds
    if len(args) > 1 and kinds and not kinds & {"array", "null"}:
        return args[-1], args[:-1]
    known = len(kinds) == 1 or len(args) == 1
    return args[0] if known else Argument(args[0].node, UNKNOWN), args[1:]


def _index(used: Used) -> Shape:
    shape = used.first
    what = used.env.holder(used.args[0].node)
    for arg in used.args[1:]:
        if "string" in shape.kinds:
            return UNKNOWN  # a byte of a text
        key = known_key(arg.node)
        start, end = arg.node.start, arg.node.end
        shape = used.env.step(shape, key, what, start, end, used.guarded)
        what += dotted(key)
    return shape


def _one(used: Used) -> Shape:
    return element(used.last)


def _longer(used: Used) -> Shape:
    """`append`, `prepend`."""
    return list_of(either((element(used.first), *(arg.shape for arg in used.args[1:]))))


def _concat(used: Used) -> Shape:
    return list_of(either(element(arg.shape) for arg in used.args) if used.args else UNKNOWN)


def _part(used: Used) -> Shape:
    """`slice`, and `take` with its arguments in either order."""
    source = used.first
    if used.node.name == "take" and source.kinds == {"number"}:
        source = used.last
    parts = {"array": list_of(element(source)), "string": TEXT}
    found = [parts[kind] for kind in sorted(source.kinds) if kind in parts]
    return either(found) if found else UNKNOWN


def _without(used: Used) -> Shape:
    return list_of(element(used.first))


def _chunk(used: Used) -> Shape:
    return list_of(_same(used))


def _list(used: Used) -> Shape:
    shapes = [arg.shape for arg in used.args]
    if len(shapes) == 1 and used.node.piped is not None and used.node.name == "list":
        # Jinja's filter `| list`: a list stays as it is.
        return shapes[0] if shapes[0].kinds == {"array"} else _LIST
    return list_of(either(shapes))


def _flatten(used: Used) -> Shape:
    made = []
    inner = element(used.last)
    for one in inner.alternatives:
        made.append((one.items or UNKNOWN) if one.kind == "array" else one)
    return list_of(either(made))


def _map(used: Used) -> Shape:
    source, rest = _subject(used)
    key = rest[0].node if rest else dict(used.node.keywords).get("attr")
    if not isinstance(key, Literal) or not isinstance(key.value, str):
        return _LIST
    return list_of(_reached(source, key, key.value, used))


def _reached(source: Argument, node: Literal, path: str, used: Used) -> Shape:
    """The field at a dotted key of each element; what is missing there is null."""
    shape, what = element(source.shape), used.env.holder(source.node) + dotted(None)
    if not isinstance(direct := member(shape, path), Stop):
        return direct
    # Where the key stands without its quotes, if it is written out as it is.
    given = used.env.text[node.start + 1 : node.end - 1]
    at = node.start + 1 if given == path else None
    for step in path.split("."):
        is_index = step.isascii() and step.isdigit() and "array" in shape.kinds
        if is_index and len(shape.kinds) > 1:
            return UNKNOWN
        found = member(shape, 0 if is_index else step)
        start, end = (node.start, node.end) if at is None else (at, at + len(step))
        if isinstance(found, Stop):
            if found.kinds:
                message = f"`{what}` is {found.nouns} and has no field `{step}`"
                used.env.found.append(Finding("CZ503", message, start, end))
            else:
                used.env.missing(what, found, step, start, end)
            return UNKNOWN
        shape = found
        what += dotted(step)
        at = None if at is None else end + 1
    return shape


def _filter(used: Used) -> Shape:
    source, rest = _subject(used)
    if rest and isinstance(key := rest[0].node, Literal) and isinstance(key.value, str):
        field = _reached(source, key, key.value, used)
        operator = rest[1].node if len(rest) == 3 else None
        by_value = len(rest) == 2 or (
            isinstance(operator, Literal) and operator.value in ("eq", "==", "equalto")
        )
        if by_value:
            what = used.env.holder(source.node) + dotted(None) + dotted(key.value)
            never_equal(what, field, [rest[-1]], used.env)
    return list_of(element(source.shape))


def _any_of(used: Used) -> Shape:
    return either(arg.shape for arg in used.args)


def _ternary(used: Used) -> Shape:
    return either(arg.shape for arg in used.args[:2])


def _last(used: Used) -> Shape:
    return used.last


def _validated(used: Used) -> Shape:
    """The value, or the items of a list, under the schema (§9)."""
    value, name = used.args[0], used.args[-1]
    if not isinstance(name.node, Literal) and isinstance(value.node, Literal):
        value, name = name, value
    if not isinstance(name.node, Literal) or not isinstance(name.node.value, str):
        return UNKNOWN
    schema, kinds = used.env.named(name.node.value), value.shape.kinds
    if not schema.alternatives:
        return value.shape
    if "array" in schema.kinds or (kinds and "array" not in kinds):
        return _under(schema, value.shape)
    each = list_of(_under(schema, element(value.shape)))
    return each if kinds == {"array"} else either((_under(schema, value.shape), each))


def _under(schema: Shape, value: Shape) -> Shape:
    """What is valid under a schema: with the fields of the value that it does not rule out."""
    if schema.kind != "object" or schema.closed or value.kind != "object":
        return schema
    return schema._replace(fields=Layers(schema.fields, value.fields))


def _dig(used: Used) -> Shape:
    *keys, default, source = used.args
    shape, what = source.shape, used.env.holder(source.node)
    for arg in keys:
        key, start, end = known_key(arg.node), arg.node.start, arg.node.end
        shape = used.env.step(shape, key, what, start, end, guarded=True)
        what += dotted(key)
    return either((shape, default.shape))


def _get(used: Used) -> Shape:
    """Like `index`, and an empty text where there is nothing."""
    return either((_index(used), TEXT)) if len(used.args) == 2 else UNKNOWN


def _compared(used: Used) -> Shape:
    if len(used.args) == 2:
        impossible(used.node.name, used.args[0], used.args[1], used.env)
    elif used.args and not isinstance(used.args[0].node, Literal):
        what = used.env.written(used.args[0].node)
        never_equal(what, used.first, used.args[1:], used.env)
    return BOOLEAN


def _in(used: Used) -> Shape:
    if len(used.args) == 2:
        needle, haystack = used.args
        if needle.shape.kinds == {"array"}:
            needle, haystack = haystack, needle
        never_in(needle, haystack, used.env)
    return BOOLEAN


SPECIAL: Mapping[str, Callable[[Used], Shape]] = {
    **_each("eq ne lt le gt ge", _compared),
    **_each("in has mustHas", _in),
    **_each("default coalesce", _any_of),
    **_each("first mustFirst last mustLast", _one),
    **_each("rest mustRest initial mustInitial reverse mustReverse", _same),
    **_each("uniq mustUniq compact mustCompact", _same),
    **_each("append mustAppend push mustPush prepend mustPrepend", _longer),
    **_each("without mustWithout", _without),
    **_each("slice mustSlice take", _part),
    **_each("chunk mustChunk", _chunk),
    **_each("list tuple", _list),
    **_each("filter selectattr rejectattr", _filter),
    **_each("sort unique group", _keyed),
    "concat": _concat,
    "dig": _dig,
    "flatten": _flatten,
    "get": _get,
    "index": _index,
    "map": _map,
    "required": _last,
    "ternary": _ternary,
    "validateSchema": _validated,
}
