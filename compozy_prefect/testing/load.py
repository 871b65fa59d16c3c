"""A path → a compiled project and the cases that test it; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.compiler.checks.project import Checked
from compozy_prefect.compiler.compile import CompiledProject, check, compiled
from compozy_prefect.compiler.plan import WorkflowPlan
from compozy_prefect.diagnostics import Diagnostic, SourceText, has_errors, in_file_order
from compozy_prefect.errors import ProjectInvalid
from compozy_prefect.testing import coverage
from compozy_prefect.testing.cases import Case, Finished
from compozy_prefect.testing.find import find
from compozy_prefect.testing.read import cases, written


class Loaded(NamedTuple):
    """`warnings` are of the project and of the tests; `sources` by the names of their spans."""

    project: CompiledProject
    checked: tuple[Checked, ...]
    cases: tuple[Case, ...]
    warnings: tuple[Diagnostic, ...]
    sources: Mapping[str, SourceText]

    def coverage(self, finished: Iterable[Finished]) -> coverage.Coverage:
        """What the cases have covered of the project's workflows."""
        taken = frozenset(way for one in finished for way in one.taken)
        return coverage.coverage(self._workflows(), taken)

    def _workflows(self) -> Iterator[tuple[WorkflowPlan, Checked]]:
        for one in self.checked:
            yield self.project.plan.workflows[one.scope.workflow.key], one


def load(
    path: Path, *, env_file: Path | None = None, flags: Mapping[str, str] | None = None
) -> Loaded:
    """The tests at `path`, as `find` looks for them; `flags` as for `compile_project`.

    Raises ProjectInvalid, with all that is wrong with the project and with its tests, and
    UsageError when there is no project or there are no tests.
    """
    tests = find(path)
    read = written(tests)
    checked = check(tests.project, env_file=env_file, flags=flags)
    sources = {**checked.sources, **read.sources}
    if has_errors(checked.diagnostics):
        # What names mean is not known; what is wrong with the files themselves is.
        raise ProjectInvalid(in_file_order([*checked.diagnostics, *read.diagnostics]), sources)
    project = compiled(checked)
    cases(read, tests, checked, project)
    sources |= read.sources
    found = in_file_order([*project.warnings, *read.diagnostics])
    if has_errors(found):
        raise ProjectInvalid(found, sources)
    return Loaded(project, checked.project.workflows, tuple(read.cases), tuple(found), sources)
