"""Graphs of workflows: what is in them, and golden files of each form.

`tests/cases/graphs/NAME.mmd`, `.dot` and `.svg` are the pictures of the project
`tests/cases/graphs/NAME`, or of `examples/NAME`. `UPDATE_CASES=1 pytest
tests/compiler/test_graph.py` writes them anew; look at them before they are committed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.graph import Box, Node, graph, links, names
from compozy_prefect.compiler.graph_dot import dot
from compozy_prefect.compiler.graph_mermaid import mermaid
from compozy_prefect.compiler.graph_svg import svg
from compozy_prefect.compiler.plan import (
    CollectionPlan,
    FanPlan,
    RoutePlan,
    RouterPlan,
    StepPlan,
    WaitPlan,
    loads,
)
from tests.support.plans import plan, step

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "graphs"
UPDATE = os.environ.get("UPDATE_CASES") == "1"
PROJECTS = {
    "every-type": CASES / "every-type",
    "names": CASES / "names",
    "support-ticket": ROOT / "examples" / "support-ticket",
}
FORMATS: dict[str, Callable[[Box], str]] = {"mmd": mermaid, "dot": dot, "svg": svg}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", PROJECTS)
def test_golden(name: str, suffix: str) -> None:
    path = CASES / f"{name}.{suffix}"
    text = FORMATS[suffix](graph(compile_project(PROJECTS[name]).plan))
    if UPDATE:
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_order_of_hashes_does_not_show(seed: str) -> None:
    code = (
        "import sys\n"
        "from compozy_prefect.compiler.compile import compile_project\n"
        "from compozy_prefect.compiler.graph import graph\n"
        "from compozy_prefect.compiler.graph_dot import dot\n"
        "from compozy_prefect.compiler.graph_mermaid import mermaid\n"
        "from compozy_prefect.compiler.graph_svg import svg\n"
        "root = graph(compile_project(sys.argv[1]).plan)\n"
        "sys.stdout.buffer.write((mermaid(root) + dot(root) + svg(root)).encode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PROJECTS["every-type"])],
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    written = "".join((CASES / f"every-type.{s}").read_text("utf-8") for s in ("mmd", "dot", "svg"))
    assert done.stdout.decode() == written


def test_only_the_plan_is_read() -> None:
    made = compile_project(PROJECTS["every-type"]).plan
    assert graph(loads(made.dumps())) == graph(made)


def _edges(*steps: StepPlan) -> set[tuple[str, ...]]:
    return {tuple(part for part in link if part) for link in links(steps)}


def _router(id: str, *, then: str = "", default: str = "", **routes: str) -> StepPlan:
    listed = tuple(RoutePlan(key, target) for key, target in routes.items())
    router = RouterPlan("{{ .x }}", "template", listed, default)
    return step(id, then=then, type="router", router=router)


def test_a_branch_goes_on_where_the_router_does() -> None:
    steps = (_router("r", a="x", b="y", default="y", then="z"), step("x"), step("y"), step("z"))
    assert _edges(*steps) == {
        ("r", "x", "route", "a"),
        ("r", "y", "route", "b, default"),
        ("x", "z", "next"),
        ("y", "z", "next"),
        ("z", "next"),
    }


def test_a_branch_with_its_own_next_step_goes_there() -> None:
    steps = (_router("r", a="x", then="z"), step("x", then="w"), step("z"), step("w"))
    assert ("x", "w", "next") in _edges(*steps)
    assert ("x", "z", "next") not in _edges(*steps)


def test_a_router_behind_a_router() -> None:
    steps = (_router("r", a="s", then="z"), _router("s", b="x"), step("x"), step("z"))
    assert ("x", "z", "next") in _edges(*steps)


def test_routers_that_choose_each_other_end() -> None:
    steps = (_router("r", a="s"), _router("s", b="r", c="x"), step("x"))
    assert ("x", "next") in _edges(*steps) or not [e for e in _edges(*steps) if e[0] == "x"]


def test_a_step_that_is_reached_in_two_ways_says_which() -> None:
    router = _router("r", a="x", then="z")
    steps = (router, step("x"), step("z", otherwise="x"))
    assert _edges(*steps) == {
        ("r", "x", "route", "a"),
        ("x", "z", "next", "after r"),
        ("x", "next", "otherwise"),
        ("z", "next"),
        ("z", "x", "error", "on error"),
    }


def test_a_target_that_is_only_known_when_it_runs() -> None:
    root = graph(plan(_router("r", a="{{ .workflow.input.next }}", then="z"), step("z")))
    (chosen,) = [part for part in root.parts if part.kind == "chosen"]
    assert chosen.title == ".workflow.input.next"
    assert {(e.source, e.target, e.label) for e in root.edges} >= {
        ("/flow/r", chosen.id, "a"),
        (chosen.id, "/flow/z", ""),
    }


def test_a_wait_and_its_edges() -> None:
    wait = WaitPlan("go", timeout=90.0, on_timeout="late", condition="signal.payload.ok")
    processor = step("p", path="w/p", role="processor")
    steps = (
        step("w", then="z", type="wait", wait=wait, steps=(processor,)),
        step("late"),
        step("z"),
    )
    root = graph(plan(*steps))
    by_title = {part.title: part for part in root.parts}
    assert by_title["w"].details == ("waits for go", "at most 1m30s", "until signal.payload.ok")
    kinds = {(e.kind, e.label, e.target) for e in root.edges if e.source == "/flow/w"}
    assert kinds == {
        ("next", "", "/flow/z"),
        ("timeout", "on timeout", "/flow/late"),
        ("signal", "each signal", "/flow/w/p"),
    }


def test_a_collection_says_over_what_it_runs() -> None:
    collection = CollectionPlan(
        "{{ .workflow.input.rows }}", "{{ .row.ok }}", "row", sequential=True
    )
    inner = step("x", path="c/x")
    fan = FanPlan("best_effort", 4)
    root = graph(plan(step("c", type="collection", collection=collection, fan=fan, steps=(inner,))))
    (box,) = [part for part in root.parts if isinstance(part, Box)]
    assert box.kind == "collection"
    assert box.details == (
        "collection · best_effort · one by one · 4 at a time",
        "for each row of .workflow.input.rows",
        "where .row.ok",
    )
    assert [part.title for part in box.parts] == ["x"]
    assert box.edges == ()


def test_steps_that_need_each_other_are_connected() -> None:
    inner = (step("a", path="p/a"), step("b", path="p/b", needs=("a",)))
    root = graph(plan(step("p", type="parallel", fan=FanPlan(), steps=inner)))
    (box,) = [part for part in root.parts if isinstance(part, Box)]
    assert [(e.source, e.target) for e in box.edges] == [("/flow/p/a", "/flow/p/b")]


def test_an_empty_container_is_a_node() -> None:
    root = graph(plan(step("p", type="composite", fan=FanPlan("fail_fast"))))
    assert isinstance(root.parts[1], Node)
    for render in FORMATS.values():
        assert "composite" in render(root)


@pytest.mark.parametrize("name", PROJECTS)
def test_names_are_unique_and_plain(name: str) -> None:
    found = list(names(graph(compile_project(PROJECTS[name]).plan)).values())
    assert len(found) == len(set(found))
    assert all(re.fullmatch(r"n_\w*", text, re.ASCII) for text in found)


@pytest.mark.parametrize("name", PROJECTS)
def test_every_edge_has_its_ends_in_its_box(name: str) -> None:
    root = graph(compile_project(PROJECTS[name]).plan)
    for box in (root, *(part for part in root.all_parts if isinstance(part, Box))):
        inside = {part.id for part in box.parts}
        assert {end for edge in box.edges for end in (edge.source, edge.target)} <= inside


@pytest.mark.parametrize("name", PROJECTS)
def test_svg_is_xml_with_every_title(name: str) -> None:
    root = graph(compile_project(PROJECTS[name]).plan)
    tree = ElementTree.fromstring(svg(root))
    texts = [element.text for element in tree.iter() if element.tag.endswith("}text")]
    for part in root.all_parts:
        assert " ".join(part.title.split()) in texts
        assert set(part.details) <= set(texts)


@pytest.mark.parametrize(
    "text",
    ['a"b', "a<b>&c", "#quot;", "`x`", "style a:#34;b#34;", "%%{init: {}}%%", "\x1b[31m\x00"],
)
def test_text_stays_text(text: str) -> None:
    root = graph(plan(step("a", path=text), step(text)))
    drawn = mermaid(root)
    for line in drawn.splitlines():
        if "class" not in line and "[" in line:
            label = line[line.index('"') + 1 : line.rindex('"')]
            assert '"' not in label
            assert "`" not in label
            assert not re.sub(r"</?(b|small)>|<br/>", "", label).count("<")
    ElementTree.fromstring(svg(root))
    assert dot(root).count("<b>") == len(list(root.all_parts))
