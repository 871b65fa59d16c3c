"""How cases ended → lines for people, and one object for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compozy_prefect.compiler.plan import Json
from compozy_prefect.diagnostics import SourceText, Span, excerpt, printable
from compozy_prefect.testing.cases import Finished, Status
from compozy_prefect.testing.coverage import KINDS, Coverage
from compozy_prefect.testing.expect import data_of
from compozy_prefect.testing.match import NOTHING, Difference

_MARKS: Mapping[Status, tuple[str, str]] = {
    "passed": ("✓", "32"),
    "failed": ("✗", "31"),
    "error": ("!", "31"),
    "skipped": ("-", "33"),
}
_MISSED = 50  # points of a workflow that are listed; `--json` has all


@dataclass(frozen=True, slots=True)
class Report:
    """All that `compozy test` has to say."""

    finished: Sequence[Finished]
    seconds: float
    coverage: Coverage | None = None

    @property
    def ok(self) -> bool:
        return all(one.status in ("passed", "skipped") for one in self.finished)

    def count(self, status: Status) -> int:
        return sum(one.status == status for one in self.finished)

    def to_json(self) -> dict[str, Json]:
        return {
            "ok": self.ok,
            "passed": self.count("passed"),
            "failed": self.count("failed"),
            "errors": self.count("error"),
            "skipped": self.count("skipped"),
            "duration_seconds": round(self.seconds, 3),
            "cases": [_case(one) for one in self.finished],
            "coverage": self.coverage and self.coverage.to_json(),
        }


def _case(one: Finished) -> dict[str, Json]:
    return {
        "name": one.case.name,
        "file": one.case.file,
        "line": one.case.span.line,
        "workflow_id": one.case.workflow,
        "status": one.status,
        "duration_seconds": round(one.seconds, 3),
        "message": one.message or None,
        "differences": [_difference(found) for found in one.differences],
        "error": one.failure and one.failure.to_json(),
        "execution_id": one.execution_id,
        "ui_url": one.ui_url,
    }


def _difference(found: Difference) -> dict[str, Json]:
    span = found.expected.span
    there = {} if found.seen is NOTHING else {"seen": found.seen}
    return {
        "path": found.path,
        "expected": data_of(found.expected),
        **there,
        "message": found.said(),
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


# --- text -----------------------------------------------------------------------------------------


def line(one: Finished, *, colour: bool) -> str:
    """The line of a case; its differences come later, below each other."""
    mark, number = _MARKS[one.status]
    mark = f"\x1b[{number}m{mark}\x1b[0m" if colour else mark
    said = f"  ({_flat(one.message)})" if one.status == "skipped" and one.message else ""
    time = "" if one.status == "skipped" else f"  {one.seconds:.2f} s"
    return f"  {mark} {_flat(one.case.name)}{time}{said}"


def explained(
    one: Finished, sources: Mapping[str, SourceText], *, colour: bool = False
) -> Iterator[str]:
    """The lines that say why a case did not pass."""
    yield f"{one.case.file}:{one.case.span.line}: {_flat(one.case.name)}"
    if one.message:
        yield f"  {_flat(one.message)}"
        yield from _excerpt(one.case.span, sources, colour)
    for found in one.differences:
        yield f"  {_flat(found.path)}: {_flat(found.said())}"
        yield from (f"      {printable(text)}" for text in found.detail())
        yield from _excerpt(found.expected.span, sources, colour)
    if one.failure is not None:
        place = one.failure.details
        where = f"  ({place['file']}:{place['line']}:{place['column']})" if "file" in place else ""
        yield f"  the run failed: {_flat(one.failure.message)}{where}"
    if one.ui_url:
        yield f"  {one.ui_url}"


def _excerpt(span: Span, sources: Mapping[str, SourceText], colour: bool) -> Iterator[str]:
    yield from (f"  {text}" for text in excerpt(span, sources, colour=colour))


def _flat(text: str) -> str:
    """In one line, and without what could steer a terminal."""
    return printable(" ".join(text.split()))


def summary(report: Report) -> str:
    """How many cases ended how, in a line."""
    words: dict[Status, str] = {
        "passed": "passed",
        "failed": "failed",
        "error": "could not be run",
        "skipped": "skipped",
    }
    counted = {word: report.count(status) for status, word in words.items()}
    parts = [f"{count} {word}" for word, count in counted.items() if count]
    return f"{', '.join(parts) or 'no cases'} in {report.seconds:.1f} s"


def table(coverage: Coverage) -> Iterator[str]:
    """The coverage: a line for each workflow, then what was missed in it, then the whole."""
    head = ("WORKFLOW", *(kind.upper() for kind in KINDS), "COVERED")
    rows = [head]
    for one in coverage.workflows:
        parts = [one.of(kind) for kind in KINDS]
        cells = [f"{n.covered}/{n.total}" if n.total else "" for n in parts]
        rows.append((one.workflow, *cells, f"{one.of(*KINDS).percent:g} %"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *rest])
    for one in coverage.workflows:
        missed = one.missed
        yield from (f"  {point.place}: {point.missed}" for point in missed[:_MISSED])
        if len(missed) > _MISSED:
            yield f"  … and {len(missed) - _MISSED} more in {one.workflow}; --json has all"
    whole = coverage.whole
    yield f"{whole.percent:g} % covered, {whole.covered} of {whole.total}"
