"""`compozy test`: the cases of test files, run as Prefect flows, and what they cover."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED, INTERRUPTED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import colour, note, print_diagnostics, print_json, write_text
from compozy_prefect.diagnostics import printable
from compozy_prefect.errors import UsageError

if TYPE_CHECKING:
    from compozy_prefect.testing.cases import Case, Finished
    from compozy_prefect.testing.load import Loaded
    from compozy_prefect.testing.report import Report

Flag = Annotated[bool, Parameter(negative="")]


def run_tests(
    path: Path = Path("."),
    /,
    *,
    k: Annotated[str | None, Parameter(name="-k", allow_leading_hyphen=True)] = None,
    stop: Annotated[bool, Parameter(name=["--stop", "-x"], negative="")] = False,
    jobs: Annotated[int, Parameter(alias="-j")] = 4,
    list: Flag = False,
    json: Flag = False,
    junit: Path | None = None,
    cov: Flag = False,
    cov_min: float | None = None,
) -> int:
    """Run the tests of a project: the cases of its `*.test.yaml` files, each as a Prefect flow.

    Parameters
    ----------
    path
        A project, a directory in one, or one test file.
    k
        Only the cases that have this text in their name, or in the name of their file.
    stop
        Begin no further case after one that did not pass.
    jobs
        How many cases run at a time.
    list
        List the cases, and run none.
    json
        Print one object: cases, differences, coverage.
    junit
        Write JUnit XML to this file, for CI.
    cov
        Say which tasks, routes and edges of the workflows the cases have taken.
    cov_min
        Exit with 1 when less than these per cent are covered; implies --cov.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; it must be 1 or more")
    if cov_min is not None and not 0 <= cov_min <= 100:
        raise UsageError(f"--cov-min is {cov_min:g}; it must be between 0 and 100")
    if junit is not None and not junit.absolute().parent.is_dir():
        raise UsageError(f"--junit is {junit}; there is no such directory")

    from compozy_prefect.testing.load import load

    loaded = load(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    if not SETTINGS.quiet:
        print_diagnostics(loaded.warnings, loaded.sources)
    chosen = [case for case in loaded.cases if k is None or _is_meant(case, k)]
    if not chosen:
        raise UsageError(f"no case of {len(loaded.cases)} has {k!r} in its name or its file")
    if list:
        return _listed(chosen, json)
    started = datetime.now(UTC)
    ran = _run(loaded, chosen, jobs, stop, _Lines(not json))

    from compozy_prefect.testing.report import Report

    measured = cov or cov_min is not None
    covered = loaded.coverage(ran.finished) if measured else None
    report = Report(ran.finished, ran.seconds, covered)
    if junit is not None:
        from compozy_prefect.testing.junit import junit as xml

        write_text(xml(report, started), junit)
    if json:
        print_json(report.to_json())
    else:
        _print(report, loaded)
    if ran.interrupted:
        return INTERRUPTED
    too_little = covered is not None and cov_min is not None and covered.whole.percent < cov_min
    if covered is not None and too_little:
        message = f"{covered.whole.percent:g} % is less than the {cov_min:g} % of --cov-min"
        print(f"error: {message}", file=sys.stderr)
    return DONE if report.ok and not too_little else FAILED


def _is_meant(case: Case, text: str) -> bool:
    return text.casefold() in f"{case.file} {case.name}".casefold()


def _listed(cases: Sequence[Case], json: bool) -> int:
    if json:
        print_json(
            [
                {
                    "name": case.name,
                    "file": case.file,
                    "line": case.span.line,
                    "workflow_id": case.workflow,
                }
                for case in cases
            ]
        )
    else:
        for case in cases:
            print(printable(f"{case.file}:{case.span.line}: {case.name}"))
    return DONE


class _Ran(NamedTuple):
    finished: Sequence[Finished]
    seconds: float
    interrupted: bool


def _run(loaded: Loaded, cases: Sequence[Case], jobs: int, stop: bool, lines: _Lines) -> _Ran:
    from compozy_prefect.flows import local

    logging.raiseExceptions = False  # a server that is gone is our sentence to say, not its log's
    local.reach(note)

    from compozy_prefect.flows.engine import Cancellation
    from compozy_prefect.flows.interrupt import interruptible
    from compozy_prefect.testing.run import run_all

    local.collect_garbage()
    reason: str | None = None

    async def work(cancellation: Cancellation) -> Sequence[Finished]:
        nonlocal reason
        try:
            return await run_all(
                loaded.project,
                cases,
                jobs=jobs,
                stop_early=stop,
                tell=lines,
                cancellation=cancellation,
            )
        finally:
            reason = cancellation.reason

    started = time.monotonic()
    finished = interruptible(work)
    return _Ran(finished, time.monotonic() - started, reason is not None)


class _Lines:
    """Prints a line for each case as it ends, below the name of its file."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._colour, self._file = shown, colour(sys.stdout), ""

    def __call__(self, one: Finished) -> None:
        from compozy_prefect.testing.report import line

        if not self._shown:
            return
        if one.case.file != self._file:
            self._file = one.case.file
            print(printable(self._file))
        print(line(one, colour=self._colour), flush=True)


def _print(report: Report, loaded: Loaded) -> None:
    """Why cases did not pass, what was covered, and the sum of it all."""
    from compozy_prefect.testing.report import explained, summary, table

    for one in report.finished:
        if one.status in ("failed", "error"):
            print()
            for text in explained(one, loaded.sources, colour=colour(sys.stdout)):
                print(text)
    if report.coverage is not None:
        print()
        for text in table(report.coverage):
            print(printable(text))
    print()
    print(summary(report))
