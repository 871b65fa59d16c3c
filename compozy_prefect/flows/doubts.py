"""A call that may have happened → what a person decides about it (docs/tools.md).

The run is Paused meanwhile, as by a `wait` task: the Resume button of Prefect shows the choice, and
`compozy signal` brings it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from compozy_prefect.compiler.plan import Json
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Instance
from compozy_prefect.flows.wait import Signals
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.tools.effects import DONE, FAIL, REPEAT, Decision, Doubt, unknown

PREFIX = "in-doubt:"  # of the signal that decides, before the path of the step
_SHOWN = 1000  # characters of an input
_CHOICES = {
    REPEAT: "make the call (again)",
    DONE: "it has happened, and gave `output`",
    FAIL: "let the step fail",
}


@dataclass(frozen=True, slots=True)
class Doubts:
    """The questions of one execution."""

    signals: Signals
    redactor: Redactor

    async def __call__(self, instance: Instance, doubt: Doubt, log: engine.Log) -> Decision:
        """Waits until somebody has decided, however long that takes."""
        name = PREFIX + instance.where
        if doubt.call != doubt.tool:
            name += f":{doubt.call}"
        choices = " | ".join(f'"{what}"' for what in _CHOICES)
        why = f'{unknown(doubt.tool)}; it decides, with `{{"decision": {choices}}}`'
        log.warning("The run waits for the signal `%s`: %s", name, why)
        while True:
            with self.signals.activity.rest():
                said = await self.signals.ask(name, self._form(instance, doubt), why)
            what = said.get("decision") if isinstance(said, dict) else None
            if what in _CHOICES:
                log.info("It was decided: %s", _CHOICES[what])
                return Decision(what, said.get("output"))
            log.warning("`decision` must be one of: %s", ", ".join(_CHOICES))

    def _form(self, instance: Instance, doubt: Doubt) -> Json:
        given = json.dumps(self.redactor.json(doubt.input), ensure_ascii=False)[:_SHOWN]
        choices = "; ".join(f"`{what}`: {meaning}" for what, meaning in _CHOICES.items())
        return {
            "title": f"Has `{doubt.tool}` happened?",
            "type": "object",
            "properties": {
                "decision": {
                    "title": "Decision",
                    # Prefect shows no description of the whole.
                    "description": f"Task `{instance.id}` called tool `{doubt.tool}` with "
                    f"{given} and broke off before it had heard the answer. {choices}",
                    "type": "string",
                    "enum": [*_CHOICES],
                },
                "output": {
                    "title": "Output",
                    "description": "With `done`: what the tool gave.",
                    "type": "object",
                },
            },
            "required": ["decision"],
        }
