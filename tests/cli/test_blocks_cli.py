"""`compozy blocks apply`, and templates that read what it has applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.cli import main
from tests.support.prefect_server import Api

Captured = pytest.CaptureFixture[str]
SECRET = "hunter2-and-more"
KEY = "type: secret\nname: a-key\ndata: {value: '{{ .env.A_KEY }}'}\n"
STORE = "type: local-file-system\nname: a-store\ndata: {basepath: /tmp/somewhere}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A_KEY", raising=False)
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks/key.yaml").write_text(KEY)
    (tmp_path / "blocks/store.yaml").write_text(STORE)
    (tmp_path / ".env").write_text(f"A_KEY={SECRET}\n")
    (tmp_path / "compozy.yaml").write_text(
        "name: blocks\n"
        "tasks:\n"
        "  - id: read\n"
        "    with:\n"
        "      key: 'Bearer {{ .blocks.a-key.value }}'\n"
        "      at: '{{ .blocks.a-store.basepath }}'\n"
    )
    return tmp_path


def actions(capsys: Captured, *arguments: str, code: int = 0) -> dict[str, str]:
    capsys.readouterr()
    assert main(["blocks", "apply", *arguments, "--json"]) == code
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    return {one["name"]: one["action"] for one in json.loads(out)}


def value_of(api: Api, kind: str, name: str) -> Any:
    path = f"/block_types/slug/{kind}/block_documents/name/{name}?include_secrets=true"
    return api.get(path)["data"]


def refused(capsys: Captured, path: Path) -> str:
    capsys.readouterr()
    assert main(["blocks", "apply", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert SECRET not in err
    return err


def test_applying_twice_is_applying_once(
    prefect_server: Api, project: Path, capsys: Captured
) -> None:
    made = {"a-key": "created", "a-store": "created"}
    same = dict.fromkeys(made, "unchanged")
    assert actions(capsys, "--check", code=1) == made
    found = prefect_server.post("/block_documents/filter", {})
    assert "a-key" not in {one["name"] for one in found}  # nothing was done
    assert actions(capsys) == made
    assert value_of(prefect_server, "secret", "a-key") == {"value": SECRET}
    assert value_of(prefect_server, "local-file-system", "a-store") == {
        "basepath": "/tmp/somewhere"
    }
    assert actions(capsys, "--check") == same
    assert actions(capsys, "blocks") == same
    (project / ".env").write_text("A_KEY=another-secret\n")
    assert actions(capsys, "--check", "blocks/key.yaml", code=1) == {"a-key": "updated"}
    assert value_of(prefect_server, "secret", "a-key") == {"value": SECRET}
    assert actions(capsys) == {"a-key": "updated", "a-store": "unchanged"}
    assert value_of(prefect_server, "secret", "a-key") == {"value": "another-secret"}
    (project / ".env").write_text(f"A_KEY={SECRET}\n")
    assert actions(capsys) == {"a-key": "updated", "a-store": "unchanged"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"type: secret\nname: x\ndata: {{value: {SECRET}}}\n", "error[CZ501]: a secret stands"),
        (f"type: json\nname: x\ndata: {{value: {{a: {SECRET}}}\n", "error[CZ101]"),
        ("type: secrt\nname: x\ndata: {value: '{{ .env.A_KEY }}'}\n", 'mean "secret"'),
        (
            "type: secret\nname: No_Name\ndata: {}\n",
            "error[CZ301]: `name` has characters that are not allowed",
        ),
        ("type: secret\nname: x\ndata: {value: '{{ .env.B_KEY }}'}\n", "has no `B_KEY`"),
        ("type: secret\nname: x\ndata: {value: '{{ .tasks.x }}'}\n", "error[CZ402]"),
        ("type: secret\nname: x\ndata: {value: '{{ .env.A_KEY'}\n", "error[CZ401]"),
        ("type: secret\nname: x\nvalue: 1\n", "error[CZ302]: a block needs `data`"),
        (
            "type: secret\nname: x\ndata: {value: '{{ .env.A_KEY }}'}\nvalue: 1\n",
            "error[CZ303]",
        ),
        ("type: secret\nname: x\n", "error[CZ302]: a block needs `data`"),
        ("type: secret\nname: x\ndata: 3\n", "`data` must be a map"),
        ("type: local-file-system\nname: x\ndata: {basepath: 3}\n", "does not fit the block type"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    prefect_server: Api, project: Path, capsys: Captured, text: str, said: str
) -> None:
    file = project / "blocks/bad.yaml"
    file.write_text(text)
    err = refused(capsys, file)
    assert said in err
    assert f"{file}:" in err
    found = prefect_server.post("/block_documents/filter", {})
    assert "x" not in {one["name"] for one in found}


def test_one_block_in_two_files(prefect_server: Api, project: Path, capsys: Captured) -> None:
    (project / "blocks/twice.yaml").write_text(KEY)
    assert "stands in" in refused(capsys, project)


def test_no_blocks(prefect_server: Api, tmp_path: Path, capsys: Captured) -> None:
    assert main(["blocks", "apply", str(tmp_path)]) == 2
    assert "there are no blocks" in capsys.readouterr().err


def ran(capsys: Captured, *arguments: str, code: int) -> tuple[Any, str]:
    capsys.readouterr()
    assert main(["run", ".", "--json", *arguments]) == code
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    return json.loads(out), err


def test_a_template_reads_a_block_and_its_secret_is_not_shown(
    prefect_server: Api, project: Path, capsys: Captured
) -> None:
    actions(capsys)
    result, _ = ran(capsys, code=0)
    given = {"key": "Bearer [REDACTED]", "at": "/tmp/somewhere"}
    assert result["tasks"]["read"]["output"] == given
    id = result["execution_id"]
    assert SECRET not in json.dumps(prefect_server.artifacts(id))
    assert all(SECRET not in line for line in prefect_server.logs(id))


def test_a_block_that_is_missing_is_said_with_the_place(
    prefect_server: Api, project: Path, capsys: Captured
) -> None:
    (project / "compozy.yaml").write_text(
        "name: blocks\ntasks:\n  - id: read\n    with: {key: '{{ .blocks.nobody.value }}'}\n"
    )
    result, _ = ran(capsys, code=1)
    assert result["error"]["code"] == "BLOCK_NOT_FOUND"
    assert "compozy.yaml:4:" in result["error"]["message"]
    assert "the server has no block `nobody`" in result["error"]["message"]
    assert result["tasks"] == {}


def test_a_field_that_a_block_lacks_is_said_with_the_place(
    prefect_server: Api, project: Path, capsys: Captured
) -> None:
    actions(capsys)
    (project / "compozy.yaml").write_text(
        "name: blocks\ntasks:\n  - id: read\n    with: {key: '{{ .blocks.a-key.valeu }}'}\n"
    )
    result, _ = ran(capsys, code=1)
    assert "compozy.yaml:4:" in result["error"]["message"]
    assert "the block `a-key` has no field `valeu`; did you mean" in result["error"]["message"]


def test_mocks_stand_for_blocks(prefect_server: Api, project: Path, capsys: Captured) -> None:
    result, _ = ran(capsys, "--offline", code=1)
    assert "`blocks:` in the mocks file" in result["error"]["message"]
    (project / "mocks.yaml").write_text(
        "blocks: {a-key: {value: made-up}, a-store: {basepath: /nowhere}}\n"
    )
    result, _ = ran(capsys, "--offline", "--mocks", "mocks.yaml", code=0)
    assert result["tasks"]["read"]["output"] == {"key": "Bearer made-up", "at": "/nowhere"}


def test_the_name_of_a_block_is_written_out(project: Path, capsys: Captured) -> None:
    (project / "compozy.yaml").write_text(
        "name: blocks\n"
        "config: {input: {type: object, properties: {n: {type: string}}}}\n"
        "tasks:\n  - id: read\n    with: {key: '{{ index .blocks .workflow.input.n }}'}\n"
    )
    assert main(["validate", "."]) == 1
    err = capsys.readouterr().err
    assert "error[CZ402]: which block is read must be written out" in err
    assert "compozy.yaml:5:" in err
