"""Semantic versions: `semver` and `semverCompare`, as Masterminds/semver v3 reads them.

In: versions and constraints as text. Out: a version, which prints as text and has the fields
Major, Minor, Patch, Prerelease, Metadata and Original; whether a constraint holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from compozy_prefect.expressions.functions.contract import (
    Function,
    FunctionError,
    describe,
    text,
)
from compozy_prefect.expressions.functions.values import Version

_LABEL = r"[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*"
_VERSION = rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({_LABEL}))?(?:\+({_LABEL}))?"
_WILD = (
    rf"v?(?:[0-9]+|[xX*])(?:\.(?:[0-9]+|[xX*]))?(?:\.(?:[0-9]+|[xX*]))?"
    rf"(?:-{_LABEL})?(?:\+{_LABEL})?"
)
_OPERATOR = r"(?:!=|>=|=>|<=|=<|~>|[=<>~^])?"
_RANGE = rf"\s*({_WILD})\s+-\s+({_WILD})\s*"
_ONE = rf"({_OPERATOR})\s*({_WILD})"
_PARTS = (
    rf"v?([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?(?:-({_LABEL}))?(?:\+{_LABEL})?"
)
_MAX_SOURCE = 4_096


def semver(value: object) -> Version:
    """The version; missing minor and patch numbers are 0."""
    return _parsed("semver", value)


def _parsed(where: str, value: object) -> Version:
    if isinstance(value, Version):
        return value
    source = text(where, value, "a version as text")
    found = re.fullmatch(_VERSION, source) if len(source) <= _MAX_SOURCE else None
    numbers = [int((n or "0")[:21]) for n in found.groups()[:3]] if found else []
    label = found[4] or "" if found else ""
    if found is None or any(n >= 1 << 64 for n in numbers) or not _label_is_good(label):
        raise FunctionError(f"{where}: {describe(source)} is no semantic version")
    major, minor, patch = numbers
    return Version(
        Major=major,
        Minor=minor,
        Patch=patch,
        Prerelease=label,
        Metadata=found[5] or "",
        Original=source,
    )


def _label_is_good(label: str) -> bool:
    parts = label.split(".") if label else []
    return not any(p.isdigit() and len(p) > 1 and p.startswith("0") for p in parts)


def _precedence(a: Version, b: Version) -> int:
    first, second = (tuple(v[k] for k in ("Major", "Minor", "Patch")) for v in (a, b))
    if first != second:
        return -1 if first < second else 1
    return _label_order(a["Prerelease"], b["Prerelease"])


def _label_order(a: str, b: str) -> int:
    """A release comes after its prereleases; numbers before words."""
    if a == b:
        return 0
    if not a or not b:
        return 1 if not a else -1
    left, right = a.split("."), b.split(".")
    for x, y in zip(left, right, strict=False):
        if x == y:
            continue
        if x.isdigit() and y.isdigit():
            return -1 if (len(x), x) < (len(y), y) else 1
        if x.isdigit() or y.isdigit():
            return -1 if x.isdigit() else 1
        return -1 if x < y else 1
    return -1 if len(left) < len(right) else 1


@dataclass(frozen=True, slots=True)
class _Constraint:
    operator: str
    version: Version
    any_minor: bool
    """The minor number is missing or a wildcard: `1`, `1.x`."""
    any_patch: bool
    any_major: bool

    @property
    def loose(self) -> bool:
        return self.any_major or self.any_minor or self.any_patch

    def holds(self, v: Version) -> bool:
        c = self.version
        # A prerelease only satisfies a constraint that names one.
        unasked = bool(v["Prerelease"]) and not c["Prerelease"]
        if unasked and (self.operator != "!=" or self.loose):
            return False
        match self.operator:
            case "!=":
                return self._differs(v)
            case ">":
                return self._above(v)
            case "<":
                return _precedence(v, c) < 0
            case ">=" | "=>":
                return _precedence(v, c) >= 0
            case "<=" | "=<":
                return self._at_most(v)
            case "~" | "~>":
                return self._tilde(v)
            case "^":
                return self._caret(v)
        return self._tilde(v) if self.loose else _precedence(v, c) == 0

    def _differs(self, v: Version) -> bool:
        c = self.version
        if not self.loose:
            return _precedence(v, c) != 0
        if c["Major"] != v["Major"]:
            return True
        if self.any_minor:
            return False
        if c["Minor"] != v["Minor"]:
            return True
        if self.any_patch:
            named = v["Prerelease"] or c["Prerelease"]
            return bool(named) and _label_order(v["Prerelease"], c["Prerelease"]) != 0
        return _precedence(v, c) != 0

    def _above(self, v: Version) -> bool:
        c = self.version
        if not self.loose or v["Major"] != c["Major"]:
            return _precedence(v, c) > 0
        if self.any_minor:
            return False
        if self.any_patch:
            return bool(v["Minor"] > c["Minor"])
        return _precedence(v, c) > 0

    def _at_most(self, v: Version) -> bool:
        c = self.version
        if not self.loose:
            return _precedence(v, c) <= 0
        if v["Major"] > c["Major"]:
            return False
        return not (v["Major"] == c["Major"] and v["Minor"] > c["Minor"] and not self.any_minor)

    def _tilde(self, v: Version) -> bool:
        c = self.version
        if _precedence(v, c) < 0:
            return False
        zero = not (c["Major"] or c["Minor"] or c["Patch"])
        if zero and not self.any_minor and not self.any_patch:
            return True
        if v["Major"] != c["Major"]:
            return False
        return self.any_minor or bool(v["Minor"] == c["Minor"])

    def _caret(self, v: Version) -> bool:
        c = self.version
        if _precedence(v, c) < 0:
            return False
        if c["Major"] > 0 or self.any_minor:
            return bool(v["Major"] == c["Major"])
        if v["Major"] > 0:
            return False
        if c["Minor"] > 0 or self.any_patch:
            return bool(v["Minor"] == c["Minor"])
        return bool(v["Minor"] == 0 and v["Patch"] == c["Patch"])


def _constraint(operator: str, version: str) -> _Constraint:
    found = re.fullmatch(_PARTS, version)
    if found is None:
        raise FunctionError(f"semverCompare: {describe(version)} is no constraint")
    major, minor, patch, label = found.groups()

    def wild(part: str | None) -> bool:
        return part is None or part in "xX*"

    any_major = wild(major)
    any_minor = not any_major and wild(minor)
    any_patch = not any_major and not any_minor and wild(patch)
    numbers = [
        "0" if any_major else major,
        "0" if any_major or any_minor else minor,
        "0" if any_major or any_minor or any_patch else patch,
    ]
    base = ".".join(numbers) + (f"-{label}" if label else "")
    parsed = _parsed("semverCompare", base)
    return _Constraint(operator, parsed, any_minor, any_patch, any_major)


def semver_compare(constraint: object, version: object) -> bool:
    """Whether the version satisfies `^1.2`, `>=1.0 <2.0 || ~3.1`, `1.2 - 1.4` ..."""
    source = text("semverCompare", constraint, "a constraint as text")
    if len(source) > _MAX_SOURCE:
        raise FunctionError("semverCompare: the constraint is too long")
    checked = _parsed("semverCompare", version)
    alternatives = []
    for alternative in re.sub(_RANGE, r">=\1,<=\2 ", source).split("||"):
        alternatives.append(_conjunction(alternative))
    return any(all(part.holds(checked) for part in parts) for parts in alternatives)


def _conjunction(source: str) -> list[_Constraint]:
    parts: list[_Constraint] = []
    at = len(source) - len(source.lstrip())
    one = re.compile(_ONE)
    while found := one.match(source, at):
        parts.append(_constraint(found[1], found[2]))
        rest = source[found.end() :]
        at = len(source) - len(rest.lstrip())
        if source[at : at + 1] == ",":
            at += 1
            at += len(source[at:]) - len(source[at:].lstrip())
            if at >= len(source):
                break
        elif at == found.end() and at < len(source):
            break
    if at < len(source) or not parts or source.rstrip().endswith(","):
        raise FunctionError(f"semverCompare: {describe(source)} is no constraint")
    return parts


VERSIONS: tuple[Function, ...] = (
    Function("semver", semver, 1, 1),
    Function("semverCompare", semver_compare, 2, 2),
)
