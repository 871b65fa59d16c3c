"""The calls of a step, as the journal keeps them and as Prefect and an observer see them.

A step that only asks a model once is one row in Prefect; the calls of an agent that has tools, and
those of prompts, are rows of their own below it.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.flows import engine
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.observer import Watched
from compozy_prefect.runtime.calls import Called, sized
from compozy_prefect.runtime.redaction import Redactor


class KeptCalls:
    """The calls of one attempt in the journal: `path@N/key`, where N is the number of the attempt.

    A resumed run goes on with the attempt that it had come to, whose answers are there.
    """

    def __init__(self, journal: Journal, where: str, redactor: Redactor, attempt: int) -> None:
        begun = f"{where}@attempt"
        number = (journal.get(begun) or 1) + attempt - 1
        if attempt > 1:
            journal.note(begun, number)
        self._journal, self._redactor = journal, redactor
        self._where, self._prefix = where, f"{where}@{number}/"

    def get(self, key: str) -> Json:
        return self._journal.get(self._prefix + key)

    def note(self, key: str, value: Json) -> None:
        self._journal.note(self._prefix + key, self._redactor.json(value))

    async def keep(self, key: str, value: Json) -> Json:
        kept = self._redactor.json(value)
        await self._journal.keep(self._prefix + key, kept)
        await faults.point("talk.called", self._where)
        return kept


_MOST_LINES, _LONGEST_LINE = 200, 2000  # of what a tool prints in one call

MakeRow = Callable[[str, str, str], engine.Row]  # of a call, by its key, name and kind


class StepWatch:
    """Tells of the calls of one step: log lines, rows, and pieces of answers.

    `shows_models`: the calls of models are rows, too. `id_of` gives the id of the row of a call, by
    its key. `book` gets each call of a model, without secrets.
    """

    def __init__(
        self,
        step: StepPlan,
        log: engine.Log,
        redactor: Redactor,
        watched: Watched,
        make_row: MakeRow,
        shows_models: bool,
        id_of: Callable[[str], UUID],
        book: Callable[[Called], None],
    ) -> None:
        self._step, self._log, self._redactor = step, log, redactor
        self._watched, self._make_row, self._book = watched, make_row, book
        self._shows_models, self._id_of = shows_models, id_of
        self._rows: dict[str, engine.Row] = {}

    @property
    def streams(self) -> bool:
        return self._watched.streams

    def began(self, key: str, kind: str, name: str) -> None:
        if kind != "model" or self._shows_models:
            row = self._rows[key] = self._make_row(key, name, kind)
            row.running()

    def ended(self, called: Called) -> None:
        error = self._redactor.text(called.error)
        usage, row = called.usage, self._rows.pop(called.key, None)
        if called.kind == "model":
            self._book(called._replace(error=error))
            tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
            cost = "" if not usage.cost_usd else f", {usage.cost_usd:.6f} USD"
            what = f"model {called.name}: {tokens}{cost}"
        else:
            what = f"{called.kind} {called.name}"
            if any(called.sizes):
                what += f": {sized(called.sizes)}"
        if error:
            self._log.warning("%s failed after %.2f s: %s", what, called.seconds, error)
        elif not called.again:
            self._log.info("%s, %.2f s", what, called.seconds)
        if row is None:
            return
        if error:
            row.failed(error)
        elif called.again:
            row.completed("completed before", name="Cached")
        else:
            row.completed(what)

    def id_of(self, key: str) -> str:
        return str(self._id_of(key))

    def printed(self, tool: str, text: str) -> None:
        lines = self._redactor.text(text).rstrip().splitlines()
        for line in lines[:_MOST_LINES]:
            self._log.info("tool %s: %s", tool, line[:_LONGEST_LINE])
        if len(lines) > _MOST_LINES:
            self._log.info("tool %s: … and %d more lines", tool, len(lines) - _MOST_LINES)

    def chunk(self, text: str | None) -> None:
        self._watched.tell("step_said", self._step, text and self._redactor.text(text))
