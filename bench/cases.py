"""What is measured, against what, and how fast it has to be."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bench import at_once, durable, models, servers, tools, web, workers
from bench.ground import COMPOZY, HELLO, TICKET, Ground
from bench.language import LOOK_UP, LOOP, READ, Sample, lines, rendering

IMPORTS = "import yaml, pydantic, cyclopts"
# A process's `ru_maxrss` begins with that of its parent, so this one has to stay small.
PLANS = """
import resource, sys, time
from compozy_prefect import compile_project
start = time.perf_counter()
compile_project(sys.argv[1]).plan.dumps()
seconds = time.perf_counter() - start
unit = 2**20 if sys.platform == "darwin" else 2**10
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
"""


@dataclass(frozen=True)
class Measure:
    """One number of a case, and what it may be: in its unit, and beside the baseline's."""

    name: str
    most: float | None = None
    most_ratio: float | None = None
    unit: str = "s"
    least_ratio: float | None = None


@dataclass(frozen=True)
class Case:
    """Something of ours that costs, and what it is compared with, if anything."""

    measures: tuple[Measure, ...]
    ours: Sample
    baseline: Sample | None = None


@dataclass
class Result:
    """Medians, and the goals with whether they were met."""

    name: str
    unit: str = "s"
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
        (Measure("validate support-ticket, whole process", most=0.4),),
        lambda: (ground.timed([COMPOZY, "validate", TICKET])[0],),
    )
    yield from flow_runs(ground)
    if workers.can_stand():
        with workers.standing(ground) as address:
            yield from on_dask(ground, address)
    waiting = ground.project("waiting", durable.waits(durable.SIGNALS))
    yield Case(
        (Measure("from a signal to the next step, 95th percentile", most=0.25),),
        lambda: durable.signals(ground, waiting),
    )
    fifty = ground.project("fifty", [_step(index) for index in range(50)])
    yield Case(
        (Measure("resume a run of 50 steps killed at step 40, without imports", most=1.5),),
        lambda: durable.resumed(ground, fifty),
    )
    talks = ground.project("talks", durable.asks(50))
    yield Case(
        (Measure("replay a run of 50 steps, without imports", most=1.0),),
        lambda: durable.replayed(ground, talks),
    )
    thousand = ground.project("thousand", [_collection(1000)])
    items = ground.project("items", [_collection(10_000)])
    yield Case(
        (
            Measure("a fan-out of 10,000, beside one of 1,000, flow run", most=15, unit="times"),
            Measure("the same, peak memory", most=500, unit="MiB"),
            Measure("the same, slowest answer of the server", unit="s"),
        ),
        lambda: durable.large(ground, thousand, items),
    )
    yield Case(
        (
            Measure("a call of a model on top of litellm's, CPU", most=1, unit="ms"),
            Measure("the same, 50 at a time", most=1, unit="ms"),
            Measure("the whole call", unit="ms"),
            Measure("the whole call by litellm as it comes", unit="ms"),
            Measure("the whole call by httpx", unit="ms"),
        ),
        lambda: models.costs(ground),
    )
    yield Case(
        (
            Measure("a call of a tool in JavaScript", most=0.5, unit="ms"),
            Measure("the same, on a new process", most=60, unit="ms"),
            Measure("the same, 2,000 at once", most=1, unit="ms"),
        ),
        lambda: tools.costs(ground),
    )
    calling, mocks = tools.collection(ground)
    yield Case(
        (
            Measure("run a collection of 200 calls in JavaScript, whole process, beside mocks"),
            Measure("the same, flow run", most_ratio=1.5),
        ),
        lambda: ground.compozy(calling),
        lambda: ground.compozy(calling, "--mocks", str(mocks)),
    )
    yield Case(
        (
            Measure("a call of a function in Python", unit="ms"),
            Measure("a call of a program", unit="ms"),
            Measure("the same by asyncio, without limits or a guard", unit="ms"),
        ),
        lambda: tools.programs(ground),
    )
    yield Case(
        (
            Measure("a call of an MCP tool on top of the SDK's, CPU", most=0.5, unit="ms"),
            Measure("the same, 20 at a time", most=0.5, unit="ms"),
            Measure("a call of an MCP tool on top of the SDK's, by the clock", most=0.5, unit="ms"),
            Measure("the whole call", unit="ms"),
            Measure("the whole call by the SDK", unit="ms"),
        ),
        lambda: servers.costs(ground),
    )
    yield Case(
        (
            Measure("a call of an HTTP tool on top of httpx's", most=0.3, unit="ms"),
            Measure("the whole call of an HTTP tool", unit="ms"),
            Measure("the same by httpx", unit="ms"),
            Measure("a call of an HTTP tool, 50 at a time", unit="ms"),
            Measure("the same by httpx, 50 at a time", unit="ms"),
        ),
        lambda: web.costs(ground),
    )
    large = ground.project("large", [_step(index) for index in range(1000)])
    yield Case(
        (
            Measure("load, check and plan 1,000 tasks", most=1.5),
            Measure("the same, peak memory", most=150, unit="MiB"),
        ),
        lambda: ground.numbers(PLANS, large),
    )
    huge = ground.project("huge", [_step(index) for index in range(10_000)])
    yield Case(
        (
            Measure("load, check and plan 10,000 tasks", most=12),
            Measure("the same, exponent of the growth from 1,000", most=1.1, unit=""),
        ),
        lambda: _growth(ground.numbers(PLANS, large)[0], ground.numbers(PLANS, huge)[0]),
    )
    text = ground.directory / "lines.yaml"
    text.write_text(lines(1000), encoding="utf-8")
    yield Case(
        (Measure("read 10,000 lines of YAML, beside PyYAML's C loader", most_ratio=1.3),),
        lambda: ground.numbers(READ, "ours", text),
        lambda: ground.numbers(READ, "theirs", text),
    )
    for name, pair, most in (("a look-up", LOOK_UP, 1), ("a loop over ten items", LOOP, 10)):
        ours, theirs = rendering(pair)
        measure = Measure(f"render {name}, beside Jinja2's sandbox", most, 0.2, "µs")
        yield Case((measure,), ours, theirs)


def flow_runs(ground: Ground) -> Iterator[Case]:
    """Runs of each kind, beside hand-written flows that do the same."""
    yield Case(
        (
            Measure("run hello-world, whole process", most_ratio=1.05),
            Measure("run hello-world, flow run", most_ratio=1.05),
        ),
        lambda: ground.compozy(HELLO, "-i", "name=Alice"),
        lambda: ground.prefect("hello"),
    )
    chain = ground.project("chain", [_step(index) for index in range(20)])
    yield Case(
        (
            Measure("run a chain of 20, whole process", most_ratio=1.0),
            Measure("run a chain of 20, flow run", most_ratio=1.05),
        ),
        lambda: ground.compozy(chain),
        lambda: ground.prefect("chain20"),
    )
    for count, whole, of_run in ((100, None, 1.0), (1000, 0.9, 0.4)):
        items = ground.project(f"items{count}", [_collection(count)])
        yield Case(
            (
                Measure(f"run a fan-out of {count:,}, whole process", most_ratio=whole),
                Measure(f"run a fan-out of {count:,}, flow run", most_ratio=of_run),
            ),
            partial(ground.compozy, items),
            partial(ground.prefect, "fanout_async", str(count), flow="fanout"),
        )
    routed = ground.project("routed", _routed())
    yield Case(
        (
            Measure("run a router with a branch, whole process", most_ratio=1.0),
            Measure("run a router with a branch, flow run", most_ratio=0.6),
        ),
        lambda: ground.compozy(routed),
        lambda: ground.prefect("router_subflow", flow="router"),
    )


def on_dask(ground: Ground, address: str) -> Iterator[Case]:
    """Fan-outs on workers in other processes, beside a hand-written one on the same workers."""
    for count in (100, 1000):
        yield Case(
            (
                Measure(f"run a fan-out of {count:,} on Dask, whole process"),
                Measure(f"run a fan-out of {count:,} on Dask, flow run"),
            ),
            partial(
                ground.compozy,
                ground.directory / f"items{count}",
                "--task-runner",
                "dask",
                "--task-runner-address",
                address,
            ),
            partial(ground.prefect, "fanout", str(count), address),
        )


def on_postgres(ground: Ground) -> Iterator[Case]:
    """What depends on the database of the server, on one of PostgreSQL."""
    for case in (*flow_runs(ground), *side_by_side(ground)):
        named = (replace(item, name=f"{item.name}, PostgreSQL") for item in case.measures)
        yield replace(case, measures=tuple(named))


def side_by_side(ground: Ground) -> Iterator[Case]:
    """Many runs in one process: how many end in a second."""
    chain = ground.directory / "chain"
    for name, project, flow, input in (
        ("hello-world", HELLO, "hello", {"name": "Alice"}),
        ("a chain of 20", chain, "chain20", {}),
    ):
        many = f"{at_once.AT_ONCE} runs at once of {name}"
        yield Case(
            (Measure(many, unit="runs/s", least_ratio=0.9),),
            partial(at_once.ours, ground, project, **input),
            partial(at_once.theirs, ground, flow),
        )


def measure(case: Case, rounds: int) -> list[Result]:
    """Medians of both sides, run in turn, each round the other way round than the one before."""
    results = [Result(item.name, item.unit) for item in case.measures]
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
        goal = f"at most {item.most} {item.unit}".rstrip()
        result.goals.append((goal, result.ours <= item.most))
    if item.most_ratio is not None and result.ratio is not None:
        goal = f"at most {item.most_ratio} x the baseline"
        result.goals.append((goal, result.ratio <= item.most_ratio))
    if item.least_ratio is not None and result.ratio is not None:
        goal = f"at least {item.least_ratio} x the baseline"
        result.goals.append((goal, result.ratio >= item.least_ratio))


def _growth(small: float, large: float) -> tuple[float, float]:
    """The seconds of ten times as much, and the exponent: 1 is linear, 2 quadratic."""
    return large, math.log10(large / small)


def _collection(count: int) -> dict[str, Any]:
    return {
        "id": "squares",
        "type": "collection",
        "items": f"1..{count}",
        "task": {"id": "square-{{ .index }}", "with": {"n": "{{ mul .item .item }}"}},
    }


def _routed() -> list[dict[str, Any]]:
    """Classify, then one of two branches."""
    routes = {name: {"id": name, "with": {"text": f"abc-{name}"}} for name in ("a", "b")}
    return [
        {"id": "classify", "with": {"kind": "a"}},
        {
            "id": "pick",
            "type": "router",
            "condition": "{{ .tasks.classify.output.kind }}",
            "routes": routes,
        },
    ]


def _step(index: int) -> dict[str, Any]:
    """A basic task without executor and with two templates; it reads the one before it."""
    before = f".tasks.step_{index - 1:04}.output.text" if index else ".workflow.input.text"
    return {
        "id": f"step_{index:04}",
        "type": "basic",
        "with": {"text": f'{{{{ {before} | default "x" }}}}', "place": "{{ .workflow.id }}"},
    }
