"""The same files give the same plan, in whatever order they were made or the system lists them."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from compozy_prefect.compiler.compile import check, compile_project

PROJECT = """\
name: demo
autoload: {enabled: true, strict: false, include: ["**/*.yaml"]}
models: [{provider: mock, model: m}]
"""
AGENT = "resource: agent\nid: {0}\ninstructions: i\nactions: [{{id: go, prompt: p}}]\n"
TOOL = "resource: tool\nid: {0}\ntype: http\nconfig: {{base_url: 'https://example.com/{0}'}}\n"
FLOW = """\
resource: workflow
id: f{0}
tasks: [{{id: x, agent: a{0}, action: go}}, {{id: y, tool: t{0}}}]
"""
FILES = {
    **{f"{folder}/agent{n}.yaml": AGENT.format(f"a{n}") for n, folder in enumerate("xyzxyz")},
    **{f"{folder}/tool{n}.yaml": TOOL.format(f"t{n}") for n, folder in enumerate("zyxzyx")},
    **{f"{folder}/flow{n}.yaml": FLOW.format(n) for n, folder in enumerate("yxzyxz")},
    # Taken twice, and of two kinds of fault: who is first must not hang on the listing.
    "x/twice.yaml": AGENT.format("a0"),
    "z/twice.yaml": TOOL.format("t0"),
    "y/broken.yaml": "resource: agent\nid: [\n",
}

_scandir = os.scandir


class _Shuffled:
    """What `os.scandir` gives, in another order."""

    def __init__(self, dice: random.Random, path: Any) -> None:
        with _scandir(path) as listed:
            self._entries = list(listed)
        dice.shuffle(self._entries)

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self._entries)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self._entries)


def _outcome(dice: random.Random, without: set[str]) -> tuple[str, list[str]]:
    names = [name for name in FILES if name not in without]
    dice.shuffle(names)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "compozy.yaml").write_text(PROJECT)
        for name in names:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(FILES[name])
        with mock.patch("os.scandir", lambda path: _Shuffled(dice, path)):
            found = [str(one) for one in check(root).diagnostics]
            return compile_project(root).plan.dumps(), found


@settings(max_examples=25, deadline=None)
@given(
    dice=st.randoms(use_true_random=False),
    without=st.sets(st.sampled_from([name for name in FILES if "flow" in name]), max_size=3),
)
def test_no_order_shows_in_the_plan(dice: random.Random, without: set[str]) -> None:
    first, second = _outcome(dice, without), _outcome(dice, without)
    assert first == second
    assert '"workflows":{"' in first[0]
