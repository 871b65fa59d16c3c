"""What the passes found in a project → text with a caret, or JSON.

A `Diagnostic` is data: a stable code, a severity, a sentence, a span and a hint. Passes collect
them; nothing raises them. Rendering stands here and nowhere else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning"]


class Span(NamedTuple):
    """A stretch of a file. Lines and columns count from 1 in characters; the end is exclusive.

    `file` is relative to the project's directory and uses forward slashes.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text of one file, and its lines for rendering."""

    name: str
    text: str
    lines: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Only \n, \r\n and \r end a line in YAML 1.2; str.splitlines() would split at more.
        unified = self.text.replace("\r\n", "\n").replace("\r", "\n")
        object.__setattr__(self, "lines", tuple(unified.split("\n")))


class Diagnostic(NamedTuple):
    """One finding. `code` is stable and has a page in `compozy explain`."""

    code: str
    severity: Severity
    message: str
    span: Span | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.span.file}:{self.span.line}:{self.span.column}: " if self.span else ""
        return f"{where}{self.severity}[{self.code}]: {self.message}"

    def to_json(self) -> dict[str, Any]:
        """The object of `compozy validate --format json`; positions are null without a span."""
        span = self.span
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": span.file if span else None,
            "line": span.line if span else None,
            "column": span.column if span else None,
            "end_line": span.end_line if span else None,
            "end_column": span.end_column if span else None,
            "hint": self.hint,
        }


def error(code: str, message: str, span: Span | None = None, hint: str | None = None) -> Diagnostic:
    return Diagnostic(code, "error", message, span, hint)


def warning(
    code: str, message: str, span: Span | None = None, hint: str | None = None
) -> Diagnostic:
    return Diagnostic(code, "warning", message, span, hint)


def in_file_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sorted by file and position, without exact repetitions; those without a span come first."""
    unique = dict.fromkeys(diagnostics)
    return sorted(unique, key=lambda d: (d.span is not None, d.span or Span("", 0, 0, 0, 0)))


def has_errors(diagnostics: Iterable[Diagnostic], *, strict: bool = False) -> bool:
    """Whether the project is refused; under `strict` a warning refuses it too."""
    return any(strict or d.severity == "error" for d in diagnostics)


def report(diagnostics: Iterable[Diagnostic], *, strict: bool = False) -> dict[str, Any]:
    """The JSON of `compozy validate --format json`."""
    found = in_file_order(diagnostics)
    return {
        "ok": not has_errors(found, strict=strict),
        "errors": sum(d.severity == "error" for d in found),
        "warnings": sum(d.severity == "warning" for d in found),
        "diagnostics": [d.to_json() for d in found],
    }


def render(
    diagnostics: Iterable[Diagnostic],
    sources: Mapping[str, SourceText],
    *,
    colour: bool = False,
) -> str:
    """All diagnostics as text, each with its line underlined where the source is known."""
    return "\n".join(_render_one(d, sources, colour) for d in in_file_order(diagnostics))


def printable(text: str) -> str:
    """`text` with control characters escaped, so that a file cannot steer the terminal."""
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable() or c in "\n\t"
        else (f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}")
        for c in text
    )


def _render_one(diagnostic: Diagnostic, sources: Mapping[str, SourceText], colour: bool) -> str:
    paint = _Paint(colour)
    head = paint.severity(diagnostic.severity, f"{diagnostic.severity}[{diagnostic.code}]")
    out = [f"{head}: {paint.bold(_one_line(diagnostic.message))}"]
    span = diagnostic.span
    if span is not None:
        out += excerpt(span, sources, severity=diagnostic.severity, colour=colour)
    if diagnostic.hint:
        pad = " " * (len(str(span.line)) if span else 0)
        out.append(f"{pad} {paint.dim('=')} hint: {_one_line(diagnostic.hint)}")
    return "\n".join(out) + "\n"


def excerpt(
    span: Span,
    sources: Mapping[str, SourceText],
    *,
    severity: Severity = "error",
    colour: bool = False,
) -> list[str]:
    """The lines that show a place: where it is, and its text underlined if the source is known."""
    paint = _Paint(colour)
    gutter = " " * len(str(span.line))
    out = [f"{gutter}{paint.dim('-->')} {_one_line(span.file)}:{span.line}:{span.column}"]
    source = sources.get(span.file)
    if source is not None and 1 <= span.line <= len(source.lines):
        text, mark = _underlined(source.lines[span.line - 1], span)
        out.append(paint.dim(f"{gutter} |"))
        out.append(f"{paint.dim(f'{span.line} |')} {text}".rstrip())
        out.append(f"{paint.dim(f'{gutter} |')} {paint.severity(severity, mark)}".rstrip())
    return out


def _one_line(text: str) -> str:
    """`text` without line breaks, so that a name in a file cannot pass for another diagnostic."""
    return printable(text).replace("\n", "\\n").replace("\t", " ")


_CONTEXT = 60  # characters of a long line kept on each side of the mark


def _underlined(line: str, span: Span) -> tuple[str, str]:
    """The source line, shortened around the span when it is long, and the carets below it."""
    start = min(span.column - 1, len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line.rstrip())
    end = max(start + 1, min(end, max(len(line), start + 1)))
    prefix = suffix = ""
    if len(line) > 3 * _CONTEXT:
        cut = max(0, start - _CONTEXT)
        end = min(end, start + 2 * _CONTEXT)
        prefix = "…" if cut else ""
        suffix = "…" if end + _CONTEXT < len(line) else ""
        line = line[cut : end + _CONTEXT]
        start, end = start - cut, end - cut
    shown = prefix + printable(line.expandtabs(1)).replace("\n", " ") + suffix
    before = printable(line[:start].expandtabs(1))
    marked = printable(line[start:end].expandtabs(1)) or " "
    return shown, " " * (_width(prefix) + _width(before)) + "^" * max(1, _width(marked))


def _width(text: str) -> int:
    """Terminal cells that `text` takes."""
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


class _Paint:
    def __init__(self, on: bool) -> None:
        self._on = on

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text

    def severity(self, severity: Severity, text: str) -> str:
        return self._wrap("1;31" if severity == "error" else "1;33", text)

    def bold(self, text: str) -> str:
        return self._wrap("1", text)

    def dim(self, text: str) -> str:
        return self._wrap("2", text)
