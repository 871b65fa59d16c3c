"""A result store that is full or read-only, and data that is too large or of the wrong kind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import OPEN, Begun, Chaos, groups_of
from tests.support.prefect_server import until

SMALL = {"big": [{"v": "0123456789"}], "two": "two"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB: permissions would not keep root from writing."""
    folder = tmp_path / "store"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def failed(chaos: Chaos, begun: Begun, said: str) -> Any:
    """What a run gave that has failed, in a true state and with a sentence."""
    assert chaos.ended(begun) == 1, begun.command.err()
    result = begun.command.json
    assert result["status"] == "FAILED"
    assert said in result["error"]["message"], result["error"]
    assert "Traceback" not in begun.command.err()
    id = result["execution_id"]
    state = chaos.server.flow_run(id)["state"]
    assert (state["type"], said in state["message"]) == ("FAILED", True), state
    until(
        lambda: [row["name"] for row in chaos.tree(id)[1] if row["state_type"] in OPEN],
        lambda left: not left,
        seconds=30,
    )
    return result


def on(chaos: Chaos, begun: Begun, env: dict[str, str]) -> Any:
    """The result of the run, resumed."""
    again = chaos.resume(begun.id(chaos), env=env)
    assert chaos.ended(again) == 0, again.command.err()
    return again.command.json


def test_a_store_that_is_full(chaos: Chaos, store: Path) -> None:
    env = {"PREFECT_LOCAL_STORAGE_PATH": str(store)}
    chaos.begin()
    begun = chaos.run("small", env=env, input={"each": 100_000})  # a megabyte
    failed(chaos, begun, "the result cannot be kept")
    assert chaos.effects.log == ["one"]
    remount(store, "size=8m")
    output = on(chaos, begun, env)["output"]
    assert (len(output["big"][0]["v"]), output["two"]) == (1_000_000, "two")
    assert chaos.effects.log == ["one", "two"]


def test_a_store_that_is_read_only(chaos: Chaos, store: Path) -> None:
    env = {"PREFECT_LOCAL_STORAGE_PATH": str(store)}
    chaos.begin()
    remount(store, "ro")
    begun = chaos.run("small", env=env)
    result = failed(chaos, begun, "the result cannot be kept")
    assert "Read-only file system" in result["error"]["message"]
    remount(store, "rw")
    assert on(chaos, begun, env)["output"] == SMALL
    # The effect was there and its result was not kept: it is made again, under the same key.
    assert chaos.effects.log == ["one", "one", "two"]
    assert {len(keys) for keys in chaos.effects.keys.values()} == {1}


def test_a_store_that_is_no_folder(chaos: Chaos, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    env = {"PREFECT_LOCAL_STORAGE_PATH": str(place)}
    chaos.begin()
    begun = chaos.run("small", env=env)
    failed(chaos, begun, "the result cannot be kept")
    place.unlink()
    assert on(chaos, begun, env)["output"] == SMALL


def test_an_output_of_twenty_megabytes(chaos: Chaos) -> None:
    chaos.begin()
    begun = chaos.run("small", "fan.ended=crash", input={"count": 20, "each": 100_000})
    code = chaos.ended(begun)
    assert code == -9, begun.command.err()
    output = on(chaos, begun, {})["output"]
    assert sum(len(one["v"]) for one in output["big"]) == 20_000_000
    assert chaos.effects.log == ["one", "two"]


def test_a_group_that_is_half_written(chaos: Chaos) -> None:
    calm = chaos.undisturbed("collection")
    chaos.begin()
    begun = chaos.run("collection", "journal.written#3=crash")
    assert chaos.ended(begun) == -9
    id = begun.id(chaos)
    last = groups_of(chaos.home, id)[-1]
    for text in ("", last.read_text("utf-8")[:40]):
        last.write_text(text, "utf-8")
        if not text:
            again = chaos.resume(id, "run.begun=crash")
            assert chaos.ended(again) == -9, again.command.err()
    assert chaos.resumed(calm, begun)


@pytest.mark.parametrize(
    ("items", "said"),
    [("1..9999999", "more than 1,000,000 items"), ("{{ .x", "")],
    ids=["too many", "one text"],
)
def test_items_that_are_no_list(chaos: Chaos, items: str, said: str) -> None:
    chaos.begin()
    begun = chaos.run("items", input={"items": items})
    if not said:  # one thing is a list of one (language.md §3.4)
        assert chaos.ended(begun) == 0, begun.command.err()
        assert begun.command.json["output"] == {"n": 1}
        return
    result = failed(chaos, begun, said)
    assert result["error"]["details"]["task"] == "each"
    again = chaos.resume(begun.id(chaos))
    assert chaos.ended(again) == 1  # it fails for the same reason, and has not done `one` again
    assert chaos.effects.log == ["one"]
