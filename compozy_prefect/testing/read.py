"""Test files and the project that they test → cases, or what is wrong with them.

Files are read before the project is compiled, and names looked up after it; nothing is run. All
that is wrong is a diagnostic, as in the project's own files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from compozy_prefect.compiler.compile import CheckedProject, CompiledProject
from compozy_prefect.compiler.values import UNKNOWN
from compozy_prefect.diagnostics import Diagnostic, SourceText, error, warning
from compozy_prefect.errors import UsageError
from compozy_prefect.language import nodes
from compozy_prefect.language.models import suite as nouns
from compozy_prefect.language.names import suggest
from compozy_prefect.language.source import read as parse
from compozy_prefect.language.typed import typed
from compozy_prefect.runtime.cassette import Cassette
from compozy_prefect.runtime.inputs import misspelt
from compozy_prefect.testing.answers import Answers
from compozy_prefect.testing.cases import TIMEOUT, Case, ExpectedTask
from compozy_prefect.testing.expect import Expected, Fields, Same, read
from compozy_prefect.testing.find import Tests
from compozy_prefect.testing.known import Known, impossible


class Written(NamedTuple):
    """A test file as it is written. `name` is relative to the project."""

    name: str
    folder: Path
    suite: nouns.Suite


@dataclass(slots=True)
class Read:
    """What was read. `sources` has the text of every file that a span points into."""

    written: list[Written] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, SourceText] = field(default_factory=dict)


def written(tests: Tests) -> Read:
    """The test files, as far as they say by themselves what is wrong with them."""
    out = Read()
    for file in tests.files:
        name = tests.name(file)
        try:
            root, found, source = parse(file, name)
        except OSError as fault:
            reason = (fault.strerror or str(fault)).lower()
            out.diagnostics.append(error("CZ108", f'"{name}" cannot be read: {reason}'))
            continue
        out.sources[name] = source
        out.diagnostics += found
        if isinstance(root, nodes.Mapping):
            made = typed(root, nouns.Suite)
            out.diagnostics += made.diagnostics
            if made.noun is not None:
                out.written.append(Written(name, file.parent, made.noun))
    return out


def cases(out: Read, tests: Tests, checked: CheckedProject, project: CompiledProject) -> None:
    """Adds to what was read the cases, in the order of the files, and what is wrong with them."""
    plans = project.plan.workflows
    known = {
        one.scope.workflow.key: Known(one, plans[one.scope.workflow.key])
        for one in checked.project.workflows
    }
    answers = Answers(tests, project, out.diagnostics, out.sources)
    for one in out.written:
        out.cases += _File(one, known, answers, out.diagnostics).cases()


class _File:
    def __init__(
        self,
        written: Written,
        known: dict[str, Known],
        answers: Answers,
        found: list[Diagnostic],
    ) -> None:
        self._written, self._suite = written, written.suite
        self._known, self._answers, self._found = known, answers, found

    def cases(self) -> Iterator[Case]:
        taken: dict[str, int] = {}
        for noun in self._suite.cases:
            span = noun.node.at("name").span
            if noun.name in taken:
                message = f"two cases are called `{noun.name}`, the first in line "
                self._report("CZ705", f"{message}{taken[noun.name]}", span)
            taken.setdefault(noun.name, span.line)
            known = self._workflow(noun)
            if known is not None:
                yield self._case(noun, known)

    def _case(self, noun: nouns.Case, known: Known) -> Case:
        suite, folder = self._suite, self._written.folder
        span = noun.node.at("name").span
        expect = noun.expect or nouns.Expected(node=noun.node)
        view = self._view(noun, expect, known)
        for name, near in misspelt(known.plan, noun.input):
            at = noun.node.at("input")
            assert isinstance(at, nodes.Mapping)
            message = f"workflow `{known.plan.id}` has no input `{name}`"
            hint = f"did you mean `{near}`?"
            self._found.append(warning("CZ701", message, at.key_span(name), hint))
        for signal in noun.signals:
            wrong = known.no_signal(signal.name, signal.node.at("name").span)
            self._found += [wrong] if wrong else []
        return Case(
            file=self._written.name,
            name=noun.name,
            span=span,
            workflow=known.plan.id,
            input=noun.input,
            view=view,
            tasks=tuple(self._tasks(expect, known)),
            mocks=self._answers.laid_over(suite, noun, folder),
            cassette=self._cassette(noun, folder),
            offline=_first(noun.offline, suite.offline, True),
            env={**suite.env, **noun.env},
            signals=tuple((signal.name, signal.payload) for signal in noun.signals),
            timeout=_first(noun.timeout, suite.timeout, TIMEOUT),
            skip=noun.skip or "",
        )

    def _cassette(self, noun: nouns.Case, folder: Path) -> Path | None:
        """The file that answers models and tools, if one does; it is read once to see whether."""
        part: nouns.Surroundings = noun if noun.cassette is not None else self._suite
        if part.cassette is None:
            return None
        file = folder / part.cassette
        try:
            Cassette.replay(file)
        except (UsageError, ValueError) as fault:
            hint = "record one with `compozy run --record FILE`"
            message = str(fault).replace(str(file), part.cassette)
            self._report("CZ704", message, part.node.at("cassette").span, hint)
            return None
        return file

    def _workflow(self, noun: nouns.Case) -> Known | None:
        part: nouns.Surroundings = noun if noun.workflow is not None else self._suite
        names = list(self._known)
        if part.workflow is None and len(names) == 1:
            return next(iter(self._known.values()))
        if part.workflow is None:
            listed = f"the project has {', '.join(names) or 'none'}"
            self._report("CZ302", "a case needs `workflow`", noun.node.at("name").span, listed)
            return None
        known = self._known.get(part.workflow)
        if known is None:
            hint = suggest(part.workflow, names, what="there are")
            message = f"there is no workflow `{part.workflow}`"
            self._report("CZ701", message, part.node.at("workflow").span, hint)
        return known

    # Expectations

    def _view(self, noun: nouns.Case, expect: nouns.Expected, known: Known) -> Fields:
        """What is expected of `{status, output, error}`."""
        node = expect.node
        made: dict[str, Expected] = {}
        status = "SUCCESS" if expect.error is None else "FAILED"
        if expect.status is not None:
            status = expect.status
        if status == "SUCCESS" and expect.error is not None:
            message = "a run that succeeds has no error"
            self._report("CZ703", message, node.key_span("error"), "expect `status: FAILED`")
        at = node.at("status") if expect.status else noun.node.at("name")
        made["status"] = Same(at.span, status)
        output = node.get("output") if noun.expect is not None else None
        if output is not None:
            made["output"] = read(output, self._found)
            if status == "SUCCESS":  # a run that failed may give the outputs of its tasks instead
                self._found += impossible(made["output"], known.output, "output")
        if expect.error is not None:
            made["error"] = read(expect.error.node, self._found)
        return Fields(node.span, made, {})

    def _tasks(self, expect: nouns.Expected, known: Known) -> Iterator[ExpectedTask]:
        node = expect.node.get("tasks") if expect.tasks else None
        assert node is None or isinstance(node, nodes.Mapping)
        for key, task in expect.tasks.items():
            assert node is not None
            span = node.key_span(key)
            steps = known.steps(key)
            if not steps:
                self._found.append(known.no_task(key, span))
            elif isinstance(task, str):
                yield ExpectedTask(key, node.entries[key].span, state=task)
            else:
                made = read(task.node, self._found)
                if not isinstance(made, Fields):
                    continue  # a key that no task has is reported already
                yield ExpectedTask(key, span, view=made)
                if route := made.fields.get("route_taken"):
                    self._found += known.routes(steps, route)
                output = made.fields.get("output")
                if output is not None and task.status in (None, "SUCCESS"):
                    shape = known.output_of(steps) or UNKNOWN
                    self._found += impossible(output, shape, f"{key}.output")

    def _report(self, code: str, message: str, span: Any, hint: str | None = None) -> None:
        self._found.append(error(code, message, span, hint))


def _first(*given: Any) -> Any:
    return next(one for one in given if one is not None)
