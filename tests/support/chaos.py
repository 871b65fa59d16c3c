"""Runs that are disturbed, run on, and compared with one that was not.

    chaos = Chaos(zygote, server, effects, folder)
    calm = chaos.undisturbed("sequence")
    chaos.disturbed(calm, "step.performed@flaky=crash")     # asserts all that is promised

What is promised (docs/failure-matrix.md): the output and the `tasks` are the same, no effect of a
step that was kept is repeated, another is under the same idempotency key, each step is one row, and
nothing is left open in Prefect.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.flows.mend import LATE, MEND_EVERY
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until
from tests.support.zygote import Command, Zygote

CASES = Path(__file__).parents[1] / "cases" / "chaos"
OPEN = {"RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING"}
ENDS = 240.0  # seconds in which every run has ended, on a busy machine too: nothing hangs
RESUMES = 4
MENDED = LATE.total_seconds() + MEND_EVERY + 60  # seconds after which nothing is open any more
# The rows of the steps of workflows that are called, which are no tasks of the run itself.
CALLED = {"calls": Counter(one=4, two=4)}
# What the runs that wait get, by the name of the signal.
SIGNALS = {"go": [{"n": 1}, {"n": 2}]}


@dataclass
class Calm:
    """What a run that was not disturbed gave."""

    name: str
    result: Any
    effects: Counter[str]
    keys: dict[str, int]
    kept: Counter[str]
    rows: Counter[str]
    seconds: float
    places: Counter[str]

    @property
    def again(self) -> set[str]:
        """Steps in containers that are tried again as a whole."""
        often = {name for name, count in self.rows.items() if count > 1}
        return often - CALLED.get(self.name, Counter()).keys()


@dataclass
class Chaos:
    zygote: Zygote
    server: Api
    effects: Effects
    folder: Path
    home: Path  # Prefect's, with the results
    signals: dict[str, list[Any]] = field(default_factory=lambda: dict(SIGNALS))
    sent: set[tuple[str, str]] = field(default_factory=set)
    known: dict[str, Calm] = field(default_factory=dict)

    def project(self, name: str) -> Path:
        """The folder of a workflow of tests/cases/chaos, which calls our effects."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "compozy.yaml").write_text(self._text(f"{name}.yaml"), "utf-8")
            for other in ("listener.yaml", "callee.yaml"):
                (folder / other).write_text(self._text(other), "utf-8")
        return folder

    def _text(self, file: str) -> str:
        return (CASES / file).read_text("utf-8").replace("EFFECT", self.effects.tool)

    # --- commands -------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new log of effects, to which no command of a case that failed adds any more."""
        self.zygote.end()
        self.effects.clear()

    def run(
        self,
        name: str,
        fault: str = "",
        env: dict[str, str] | None = None,
        input: dict[str, Any] | None = None,
        visits: Path | None = None,
    ) -> Begun:
        case = f"case-{uuid.uuid4().hex[:16]}"  # 12e34 alone is a number
        env = {**(env or {}), "COMPOZY_FAULT": fault}
        more: tuple[str, ...] = ("--workflow", name) if name in ("waiting", "calls") else ()
        given = {"case": case, **(input or {})}
        for key, value in given.items():
            more += ("-i", f"{key}={value}")
        arguments = ("run", ".", "--json", *more)
        command = self.zygote.start(*arguments, cwd=self.project(name), env=env, visits=visits)
        return Begun(command, case)

    def resume(self, id: str, fault: str = "", env: dict[str, str] | None = None) -> Begun:
        env = {**(env or {}), "COMPOZY_FAULT": fault}
        command = self.zygote.start("resume", id, "--json", cwd=self.folder, env=env)
        return Begun(command, "", id)

    def ended(self, begun: Begun) -> int:
        """The exit code; meanwhile it gets the signals that it waits for."""
        deadline = time.monotonic() + ENDS
        while (code := begun.command.poll()) is None:
            if time.monotonic() > deadline:
                begun.command.kill()
                raise AssertionError(f"{begun.id(self)} hangs: {begun.command.err()}")
            if id := begun.command.execution:
                self.signal(id)
            time.sleep(0.02)
        return code

    def signal(self, id: str) -> None:
        """Gives a run that is Paused the signal that it waits for, each once."""
        state = self.server.flow_run(id)["state"] or {}
        keys = state.get("state_details", {}).get("run_input_keyset") or {}
        match = re.fullmatch(r"signal-(.*)-(\d+)-response", keys.get("response", ""))
        if state.get("type") != "PAUSED" or match is None or (id, match[0]) in self.sent:
            return
        payloads = self.signals.get(match[1], [])
        if int(match[2]) <= len(payloads):
            self.sent.add((id, match[0]))
            body = {"key": match[0], "value": json.dumps(payloads[int(match[2]) - 1])}
            self.server.patiently("POST", f"/flow_runs/{id}/input", body)

    # --- comparing ------------------------------------------------------------------------------

    def undisturbed(self, name: str) -> Calm:
        if name not in self.known:
            self.known[name] = self._undisturbed(name)
        return self.known[name]

    def _undisturbed(self, name: str) -> Calm:
        self.begin()
        visits = self.folder / f"{name}.visits"
        started = time.monotonic()
        begun = self.run(name, visits=visits)
        code = self.ended(begun)
        assert code == 0, begun.command.err()
        seconds = time.monotonic() - started
        id = begun.command.execution
        keys = {step: len(keys) for step, keys in self.effects.keys.items()}
        log = Counter(self.effects.log)
        kept = kept_of(self.home, id)
        result = comparable(begun.command.json)
        tasks = {key.rpartition("/")[2] for key in result["tasks"]}
        called = CALLED.get(name, Counter())
        rows = self.settled(id, lambda rows: rows.keys() == {*tasks, *called} and called <= rows)
        places = Counter(visits.read_text("utf-8").split())
        return Calm(name, result, log, keys, kept, rows, seconds, places)

    def disturbed(
        self,
        calm: Calm,
        fault: str,
        *,
        again: str = "",
        disturb: Callable[[Begun], None] | None = None,
        code: int = -9,
    ) -> bool:
        """One case; False when the run never came to the place of the fault.

        `again` is a fault of the first resumption, `disturb` does to a running process what else
        is to happen. Raises AssertionError when a promise is broken.
        """
        self.begin()
        begun = self.run(calm.name, fault)
        if disturb is not None:
            disturb(begun)
        ended = self.ended(begun)
        if ended == 0:
            return False
        assert ended == code, begun.command.err()
        if not again:
            return self.resumed(calm, begun)
        second = self.resume(begun.id(self), again)
        if (ended := self.ended(second)) == 0:
            return False
        assert ended == code, second.command.err()
        return self.resumed(calm, begun)

    def resumed(self, calm: Calm, begun: Begun) -> bool:
        """Runs it on until it is over, and compares."""
        id = begun.id(self)
        if not id:
            assert not self.effects.log
            return False
        before, kept = Counter(self.effects.log), kept_of(self.home, id)
        for _ in range(RESUMES):
            one = self.resume(id)
            code = self.ended(one)
            if code == 0:
                break
        if code != 0 and "is over: it succeeded" in one.command.err():  # killed after its end
            shown = self.zygote.start("show", id, "--json", cwd=self.folder)
            assert shown.wait(90) == 0, shown.err()
            assert shown.json["output"] == calm.result["output"]
        else:
            assert code == 0, f"{id}: {one.command.err()}"
            self.gives(calm, one)
        self.did(calm, id, before, kept)
        return True

    def gives(self, calm: Calm, begun: Begun) -> None:
        """Asserts that its result is that of a run which nobody disturbs …"""
        differs = different(calm.result, comparable(begun.command.json))
        assert not differs, f"{begun.id(self)}: {differs}"

    def did(self, calm: Calm, id: str, before: Counter[str], kept: Counter[str]) -> None:
        """… and that it did what such a run does."""
        after = Counter(self.effects.log)
        more = {s: keys for s, keys in self.effects.keys.items() if len(keys) > calm.keys.get(s, 0)}
        assert not more, f"{id}: more idempotency keys than steps: {more}"
        repeated = {
            step: (before[step], count, kept[step])
            for step, count in after.items()
            if count - before[step] > _may_follow(calm, kept, step)
        }
        assert not repeated, f"{id}: effects (before, after, kept): {repeated}"
        missing = set(calm.effects) - set(after)
        assert not missing, f"{id}: no effect of {missing}"
        self.settled(id, lambda rows: _are_those(calm, rows))

    def settled(self, id: str, fits: Callable[[Counter[str]], bool]) -> Counter[str]:
        """The rows of the steps of an execution, when nothing of it is open any more.

        What a killed process told last may come to the server after the run has ended. Then the
        server closes it.
        """

        def look() -> tuple[Counter[str], list[tuple[str, str]]]:
            runs, found = self.tree(id)
            steps = Counter(row["name"] for row in found if "/" in row["task_key"])
            states = [(one["name"], one["state_type"]) for one in [*runs, *found]]
            return steps, [one for one in states if one[1] in OPEN]

        return until(look, lambda seen: not seen[1] and fits(seen[0]), seconds=MENDED)[0]

    def tree(self, id: str) -> tuple[list[Any], list[Any]]:
        """The flow runs and the task runs of an execution."""
        runs = [self.server.flow_run(id)]
        around = [id]
        while around:
            wanted = {"flow_runs": {"parent_flow_run_id": {"any_": around}}}
            inner = self.server.post("/flow_runs/filter", wanted)
            runs += inner
            around = [one["id"] for one in inner]
        wanted = {"flow_runs": {"id": {"any_": [one["id"] for one in runs]}}, "limit": 200}
        return runs, self.server.post("/task_runs/filter", wanted)


def _are_those(calm: Calm, rows: Counter[str]) -> bool:
    """Whether each step has its rows.

    A container whose failure was not kept may not need all of its attempts again, and so may have
    fewer rows for what is in it; of all else there are as many as in a run that nobody disturbs.
    """
    fewer = (calm.rows - rows).keys()
    return rows.keys() == calm.rows.keys() and rows <= calm.rows and fewer <= calm.again


@dataclass
class Begun:
    """A command; `case` is in the name of the flow run, which tells its id when it said nothing."""

    command: Command
    case: str
    known: str = ""

    def id(self, chaos: Chaos) -> str:
        self.known = self.known or self.command.execution
        if not self.known:
            wanted = {"flow_runs": {"name": {"like_": self.case}}}
            found = chaos.server.post("/flow_runs/filter", wanted)
            self.known = found[0]["id"] if found else ""
        return self.known


def _may_follow(calm: Calm, kept: Counter[str], step: str) -> int:
    """How many effects a step may have after a kill: none when all its visits were kept."""
    if step not in calm.kept:  # of a run that this one starts
        return calm.effects[step]
    if kept[step] >= calm.kept[step]:
        return 0
    return calm.effects[step] - kept[step]


def comparable(result: Any) -> Any:
    """What must be equal, however often a run was disturbed, and whenever it ran."""
    text = json.dumps({key: result[key] for key in ("status", "output", "error", "tasks", "usage")})
    text = text.replace(result["execution_id"], "ID")
    text = re.sub(r'exec_id": "[^"]+"', 'exec_id": "ID"', text)
    text = re.sub(r'duration_ms": \d+', 'duration_ms": 0', text)
    return json.loads(re.sub(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"', '"TIME"', text))


def different(one: Any, other: Any, at: str = "") -> list[str]:
    """The places at which two results differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        parts = [different(one.get(key), other.get(key), f"{at}/{key}") for key in keys]
        return [place for part in parts for place in part]
    return [] if one == other else [f"{at}: {one!r} is now {other!r}"]


def journal_of(home: Path, id: str) -> dict[str, Any]:
    """What the journal of an execution holds, as far as it can be read."""
    out: dict[str, Any] = {}
    for file in groups_of(home, id):
        with suppress(ValueError):
            out |= json.loads(json.loads(file.read_text("utf-8"))["result"])
    return out


def groups_of(home: Path, id: str) -> list[Path]:
    """The files of the journal of an execution, in their order: by their terms and numbers."""
    first = home / "storage" / id / "@journal"
    later = sorted(first.glob("@*"), key=lambda folder: int(folder.name[1:]))
    return [file for folder in (first, *later) for file in sorted(folder.glob("0*"))]


def kept_of(home: Path, id: str) -> Counter[str]:
    """How many instances of a step, by its id, will not run again."""
    journal = {where: value for where, value in journal_of(home, id).items() if value is not None}
    over = [where.removesuffix("@passed") for where in journal if where.endswith("@passed")]
    ended = {where for where in journal if "@" not in where} | set(over)
    # What stands in a container that was passed over is not run again either.
    inside = {where.partition("@")[0] for where in journal}
    ended |= {one for one in inside if any(one.startswith(f"{path}/") for path in over)}
    return Counter(re.split(r"[#~]", one.rpartition("/")[2])[0] for one in ended)


@pytest.fixture(scope="session")
def chaos(prefect_server: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    folder, effects = tmp_path_factory.mktemp("chaos"), Effects()
    with Zygote(folder) as zygote:
        yield Chaos(zygote, prefect_server, effects, folder, Path(os.environ["PREFECT_HOME"]))
    effects.close()


def moments(seed: int, count: int, seconds: float) -> Iterator[float]:
    """So many moments of a run, in seconds after its start."""
    chosen = random.Random(seed)
    for _ in range(count):
        yield chosen.uniform(0.0, seconds)
