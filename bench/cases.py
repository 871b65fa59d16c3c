"""What is measured, against what, and how fast it has to be (issue 2, "How fast")."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.ground import COMPOZY, HELLO, Ground

Sample = Callable[[], tuple[float, ...]]  # seconds, one for each measure of the case

IMPORTS = "import yaml, pydantic, cyclopts"
PLANS = """
import sys, time
from compozy_prefect import compile_project
start = time.perf_counter()
compile_project(sys.argv[1]).plan.dumps()
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Measure:
    """One number of a case, and what it may be at most: in seconds, and beside the baseline's."""

    name: str
    most: float | None = None
    most_ratio: float | None = None


@dataclass(frozen=True)
class Case:
    """Something of ours that takes time, and what it is compared with, if anything."""

    measures: tuple[Measure, ...]
    ours: Sample
    baseline: Sample | None = None


@dataclass
class Result:
    """Medians in seconds, and the goals with whether they were met."""

    name: str
    ours: float = 0.0
    baseline: float | None = None
    ratio: float | None = None
    goals: list[tuple[str, bool]] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "goals": [{"goal": text, "met": met} for text, met in self.goals]}


def cases(ground: Ground) -> Iterator[Case]:
    yield Case(
        (Measure("validate hello-world, whole process", most=0.35, most_ratio=2.0),),
        lambda: (ground.timed([COMPOZY, "validate", HELLO])[0],),
        lambda: (ground.timed([sys.executable, "-c", IMPORTS])[0],),
    )
    yield Case(
        (
            Measure("run hello-world, whole process", most_ratio=1.05),
            Measure("run hello-world, flow run"),
        ),
        lambda: ground.compozy(HELLO, "-i", "name=Alice"),
        lambda: ground.prefect("hello"),
    )
    chain = ground.project("chain", [_step(index) for index in range(20)])
    yield Case(
        (
            Measure("run a chain of 20, whole process", most_ratio=1.0),
            Measure("run a chain of 20, flow run"),
        ),
        lambda: ground.compozy(chain),
        lambda: ground.prefect("chain20"),
    )
    large = ground.project("large", [_step(index) for index in range(1000)])
    yield Case(
        (Measure("load, check and plan 1,000 tasks", most=1.5),),
        lambda: (float(ground.output([sys.executable, "-c", PLANS, large])),),
    )


def measure(case: Case, rounds: int) -> list[Result]:
    """Medians of both sides, run in turn, each round the other way round than the one before."""
    results = [Result(item.name) for item in case.measures]
    sides = {"ours": case.ours} | ({"baseline": case.baseline} if case.baseline else {})
    samples: dict[str, list[tuple[float, ...]]] = {side: [] for side in sides}
    try:
        for side in sides.values():
            side()  # not counted: it fills caches, and starts the server
        for number in range(rounds):
            for name in list(sides) if number % 2 == 0 else reversed(sides):
                samples[name].append(sides[name]())
    except (RuntimeError, OSError, ValueError, KeyError, IndexError) as fault:
        for result in results:
            result.error = str(fault)
        return results
    for index, (result, item) in enumerate(zip(results, case.measures, strict=True)):
        result.samples = {
            side: [round(sample[index], 4) for sample in taken] for side, taken in samples.items()
        }
        _compare(result, item)
    return results


def _compare(result: Result, item: Measure) -> None:
    result.ours = statistics.median(result.samples["ours"])
    if "baseline" in result.samples:
        result.baseline = statistics.median(result.samples["baseline"])
        result.ratio = result.ours / result.baseline
    if item.most is not None:
        result.goals.append((f"at most {item.most} s", result.ours <= item.most))
    if item.most_ratio is not None and result.ratio is not None:
        goal = f"at most {item.most_ratio} x the baseline"
        result.goals.append((goal, result.ratio <= item.most_ratio))


def _step(index: int) -> dict[str, Any]:
    """A basic task without executor and with two templates; it reads the one before it."""
    before = f".tasks.step_{index - 1:04}.output.text" if index else ".workflow.input.text"
    return {
        "id": f"step_{index:04}",
        "type": "basic",
        "with": {"text": f'{{{{ {before} | default "x" }}}}', "place": "{{ .workflow.id }}"},
    }
