"""The pages of `compozy explain`: one a code, and their examples do what they say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import compozy_prefect
from compozy_prefect import codes
from compozy_prefect.cli import main
from compozy_prefect.compiler.compile import check
from compozy_prefect.errors import ProjectInvalid
from compozy_prefect.testing.load import load

# Said of whole projects, and the examples are parts: what this version does not act on, and what
# nothing refers to.
NOT_YET = {"CZ308", "CZ315", "CZ218"}
PACKAGE = Path(compozy_prefect.__file__).parent
BLOCK = re.compile(r"^```yaml (bad|good)\n(.*?)^```$", re.S | re.M)
# They depend on the data of a run, or on more than one file: the page says so in words.
WITHOUT_EXAMPLE = {
    "CZ104",
    "CZ109",
    "CZ110",
    "CZ112",
    "CZ113",
    "CZ220",
    "CZ335",
    "CZ336",
    "CZ405",
    "CZ406",
    "CZ407",
}
# Of test files, whose examples stand beside the example project.
TESTS = [code for code in codes.known() if code.startswith("CZ7")]
PROJECTS = [code for code in codes.known() if code not in WITHOUT_EXAMPLE and code not in TESTS]
HELLO = PACKAGE.parent / "examples" / "hello-world" / "compozy.yaml"


def _used() -> set[str]:
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        found |= set(re.findall(r"\bCZ[0-9]{3}\b", path.read_text("utf-8")))
    return found


def _blocks(code: str) -> dict[str, str]:
    return dict(BLOCK.findall(codes.page(code) or ""))


def test_every_code_has_a_page() -> None:
    assert sorted(_used() - set(codes.known())) == []


def test_every_page_is_of_a_code() -> None:
    assert sorted(set(codes.known()) - _used()) == []


@pytest.mark.parametrize("code", codes.known())
def test_the_page_is_well_formed(code: str) -> None:
    page = codes.page(code)
    assert page is not None
    title, empty, text = page.split("\n", 2)
    assert re.fullmatch(rf"# {code} · [A-Z].*[^.]", title)
    assert empty == ""
    assert text.strip()
    assert page.endswith("\n")
    assert not page.endswith("\n\n")
    kinds = [kind for kind, _ in BLOCK.findall(page)]
    assert kinds == ([] if code in WITHOUT_EXAMPLE else ["bad", "good"])


@pytest.mark.parametrize("code", PROJECTS)
def test_the_bad_project_has_this_fault_and_no_other(code: str, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(_blocks(code)["bad"], "utf-8")
    found = {d.code for d in check(tmp_path).diagnostics}
    assert found - (NOT_YET - {code}) == {code}


@pytest.mark.parametrize("code", PROJECTS)
def test_the_good_project_has_none(code: str, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(_blocks(code)["good"], "utf-8")
    found = [d for d in check(tmp_path).diagnostics if d.code not in NOT_YET]
    assert [str(d) for d in found] == []


@pytest.mark.parametrize("code", TESTS)
def test_the_bad_test_has_this_fault_and_the_good_one_none(code: str, tmp_path: Path) -> None:
    shutil.copy(HELLO, tmp_path)
    (tmp_path / "hello.test.yaml").write_text(_blocks(code)["bad"], "utf-8")
    with pytest.raises(ProjectInvalid) as raised:
        load(tmp_path)
    assert {d.code for d in raised.value.diagnostics} == {code}
    (tmp_path / "hello.test.yaml").write_text(_blocks(code)["good"], "utf-8")
    assert [str(d) for d in load(tmp_path).warnings] == []


@pytest.mark.parametrize("code", codes.known())
def test_explain_prints_the_page(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code.lower()]) == 0
    assert capsys.readouterr().out == codes.page(code)


def test_explain_names_the_nearest_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "CZ2100"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "CZ210" in said.err
