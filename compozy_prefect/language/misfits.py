"""What stands where something else was expected → a diagnostic that says what would be right."""

from __future__ import annotations

from collections.abc import Iterable

from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language.models.base import Declared, Kind, Noun
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar

_WANTED = {
    "text": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "map": "a map",
    "noun": "a map",
    "section": "a map",
    "list": "a list",
    "duration": "a duration",
    "size": "a size",
    "choice": "text",
}


def wrong_type(subject: str, kind: Kind, node: Node) -> Diagnostic:
    forms = kind.forms or (kind,)
    wanted = " or ".join(dict.fromkeys(_WANTED[form.form] for form in forms))
    return error(
        "CZ301", f"{subject} must be {wanted}, not {seen(node)}", node.span, _hint(kind, node)
    )


def _hint(kind: Kind, node: Node) -> str | None:
    if kind.form == "text" and isinstance(node, Scalar) and node.value is not None:
        return "put it in quotes"
    if kind.form == "list":
        return "begin each item with `- `"
    if kind.form == "bool" and node.data() in ("yes", "no", "on", "off", "Yes", "No", "On", "Off"):
        return "write `true` or `false`; `yes`, `no`, `on` and `off` are text in YAML 1.2"
    return None


def not_a_choice(subject: str, choices: Iterable[str], node: Node) -> Diagnostic:
    value = str(node.value) if isinstance(node, Scalar) else ""
    known = list(choices)
    near = nearest(value, known)
    listed = f"possible: {', '.join(known)}"
    hint = f"did you mean `{near}`? {listed}" if near else listed
    return error("CZ301", f"{subject} cannot be {seen(node)}", node.span, hint)


def out_of_bounds(subject: str, bound: str, node: Node) -> Diagnostic:
    return error("CZ301", f"{subject} must be {bound}, not {_number(node)}", node.span)


def empty(subject: str, node: Node) -> Diagnostic:
    return error("CZ301", f"{subject} must not be empty", node.span)


def not_allowed(subject: str, hint: str, node: Node) -> Diagnostic:
    return error(
        "CZ301", f"{subject} has characters that are not allowed: {seen(node)}", node.span, hint
    )


def no_duration(subject: str, fault: ValueError, node: Node) -> Diagnostic:
    reason, _, forms = str(fault).partition("; ")
    return error("CZ305", f"{subject}: {reason}", node.span, forms or None)


def bare_seconds(name: str, node: Scalar) -> Diagnostic:
    """A warning for a duration without its unit (§2.6)."""
    return warning(
        "CZ305", f"`{name}` is taken as {node.text} seconds", node.span, f"write `{node.text}s`"
    )


def missing(called: str, field: Declared, node: Mapping) -> Diagnostic:
    """A required key is not there, or has no value."""
    name, near = field.key, look_alike(field, node)
    key = name if name in node.keys else near
    return error(
        "CZ302",
        f"{called} needs `{name}`",
        head(node) if key is None else node.key_span(key),
        f"`{near}` looks like it" if near else (not field.spec.pattern and field.spec.hint) or None,
    )


def look_alike(field: Declared, node: Mapping) -> str | None:
    """The key of a map that may be meant for a field that it lacks."""
    return None if field.key in node.entries else nearest(field.key, node.entries)


def unknown_key(kind: type[Noun], key: str, known: Iterable[str], node: Mapping) -> Diagnostic:
    """A warning; an error in what is closed, with all of its keys as nothing else lists them."""
    names = list(known)
    near = nearest(key, names)
    hint = f"did you mean `{near}`?" if near else None
    message, span = f"{kind.called} has no key `{key}`", node.key_span(key)
    if kind.is_closed:
        return error("CZ303", message, span, hint or f"it has {', '.join(names)}")
    return warning("CZ303", f"{message}; it is ignored", span, hint)


def head(node: Node) -> Span:
    """The first line of a node, so that a whole block is not underlined."""
    if isinstance(node, Mapping) and node.keys:
        return next(iter(node.keys.values())).span
    return node.span


def seen(node: Node) -> str:
    """What stands there, for a message."""
    if isinstance(node, Scalar):
        if node.value is None:
            return "null"
        if isinstance(node.value, bool):
            return f"the boolean {str(node.value).lower()}"
        if isinstance(node.value, str):
            text = " ".join(node.value.split())
            return f'the text "{text if len(text) <= 40 else text[:39] + "…"}"'
        return f"the number {node.text}"
    return f"a {node.kind}"


def _number(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else seen(node)
