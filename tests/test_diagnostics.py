"""Diagnostics as text, to the column, and as JSON, to the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compozy_prefect.cli import main
from compozy_prefect.diagnostics import (
    Diagnostic,
    SourceText,
    Span,
    error,
    has_errors,
    in_file_order,
    render,
    report,
    warning,
)


def _rendered(text: str, span: tuple[int, int, int, int], **found: str) -> list[str]:
    """The lines of one diagnostic whose file has this text."""
    diagnostic = error("CZ301", found.get("message", "wrong"), Span("f.yaml", *span))
    return render([diagnostic], {"f.yaml": SourceText("f.yaml", text)}).splitlines()


def _marked(text: str, *span: int) -> tuple[str, str]:
    """The source line as it is shown, and the carets below it, without the gutter."""
    begin, column, end, end_column = span
    shown = _rendered(text, (begin, column, end, end_column))
    return shown[3].removeprefix(f"{begin} |")[1:], shown[4].removeprefix("  |")[1:]


def test_all_of_it() -> None:
    source = SourceText("flows/a.yaml", "id: a\ntasks:\n  - id: x\n    agent: wirter\n")
    found = error("CZ211", "unknown agent: `wirter`", Span("flows/a.yaml", 4, 12, 4, 18), "try it")
    assert render([found], {"flows/a.yaml": source}) == (
        "error[CZ211]: unknown agent: `wirter`\n"
        " --> flows/a.yaml:4:12\n"
        "  |\n"
        "4 |     agent: wirter\n"
        "  |            ^^^^^^\n"
        "  = hint: try it\n"
    )


def test_the_gutter_is_as_wide_as_the_number() -> None:
    found = warning("CZ303", "unknown", Span("f.yaml", 100, 1, 100, 4), "so")
    assert render([found], {"f.yaml": SourceText("f.yaml", "\n" * 99 + "key: 1")}).splitlines() == [
        "warning[CZ303]: unknown",
        "   --> f.yaml:100:1",
        "    |",
        "100 | key: 1",
        "    | ^^^",
        "    = hint: so",
    ]


def test_without_a_span_and_without_the_source() -> None:
    assert render([error("CZ301", "wrong", None, "so")], {}) == "error[CZ301]: wrong\n = hint: so\n"
    assert render([error("CZ301", "wrong", Span("f.yaml", 2, 3, 2, 4))], {}) == (
        "error[CZ301]: wrong\n --> f.yaml:2:3\n"
    )
    assert _rendered("one line", (7, 1, 7, 2)) == ["error[CZ301]: wrong", " --> f.yaml:7:1"]


def test_several_are_separated_and_in_order() -> None:
    places = [Span("b", 1, 1, 1, 2), Span("a", 2, 1, 2, 2), Span("a", 1, 5, 1, 6), None]
    found = [error("CZ301", str(i), span) for i, span in enumerate(places)]
    assert [d.message for d in in_file_order([*found, found[0]])] == ["3", "2", "1", "0"]
    assert render(found, {}).split("\n\n")[1].startswith("error[CZ301]: 2")


@pytest.mark.parametrize(
    ("text", "span", "shown", "carets"),
    [
        ("key: bad", (1, 6, 1, 9), "key: bad", "     ^^^"),
        # A tab takes one column in both lines.
        ("a\tb: bad\tx", (1, 6, 1, 9), "a b: bad x", "     ^^^"),
        ("\t\tkey: bad", (1, 8, 1, 11), "  key: bad", "       ^^^"),
        ("a: b\tc", (1, 4, 1, 7), "a: b c", "   ^^^"),
        # Wide characters take two cells, combining ones none.
        ("日本語: x bad", (1, 8, 1, 11), "日本語: x bad", "          ^^^"),
        ("日本: 日本", (1, 5, 1, 7), "日本: 日本", "      ^^^^"),
        ("🎉: bad", (1, 4, 1, 7), "🎉: bad", "    ^^^"),
        ("e\u0301: bad", (1, 5, 1, 8), "e\u0301: bad", "   ^^^"),
        # The end of a line, of a line with \r\n, of an empty one, of the file.
        ("abc", (1, 4, 1, 4), "abc", "   ^"),
        ("abc\r\ndef", (1, 4, 1, 4), "abc", "   ^"),
        ("", (1, 1, 1, 1), "", "^"),
        ("abc", (1, 9, 1, 9), "abc", "   ^"),
        ("abc", (1, 2, 1, 99), "abc", " ^^"),
        # What goes over several lines is underlined to the end of the first.
        ("a: |\n  x\n", (1, 4, 2, 4), "a: |", "   ^"),
        ("a: [b,   \n  c]", (1, 4, 2, 5), "a: [b,", "   ^^^"),
        # What would steer the terminal, or cannot be seen, is spelled out.
        ("a\x1b[2J: bad", (1, 8, 1, 11), r"a\x1b[2J: bad", "          ^^^"),
        ("a: \x07bad", (1, 4, 1, 8), r"a: \x07bad", "   ^^^^^^^"),
        ("\u202ebad", (1, 2, 1, 5), r"\u202ebad", "      ^^^"),
        ("x\u200bbad", (1, 3, 1, 6), r"x\u200bbad", "       ^^^"),
    ],
)
def test_the_mark(text: str, span: tuple[int, int, int, int], shown: str, carets: str) -> None:
    assert _marked(text, *span) == (shown, carets)


def test_a_long_line_is_cut_around_the_mark() -> None:
    text = "x" * 100 + "BAD" + "y" * 300
    assert _marked(text, 1, 101, 1, 104) == (
        "…" + "x" * 60 + "BAD" + "y" * 60 + "…",
        " " * 61 + "^^^",
    )
    assert _marked(text, 1, 1, 1, 3) == ("x" * 62 + "…", "^^")
    assert _marked(text, 1, 402, 1, 404) == ("…" + "y" * 62, " " * 61 + "^^")


def test_a_long_mark_is_cut_too() -> None:
    shown, carets = _marked("x" * 1000, 1, 1, 1, 1001)
    assert shown == "x" * 180 + "…"
    assert carets == "^" * 120


def test_a_message_is_one_line() -> None:
    name = "a\nerror[CZ999]: forged\x1b[31m\tx"
    assert _rendered("k: v", (1, 1, 1, 2), message=f"unknown task: `{name}`")[0] == (
        r"error[CZ301]: unknown task: `a\nerror[CZ999]: forged\x1b[31m x`"
    )


def test_colour_only_when_asked_for() -> None:
    source = {"f.yaml": SourceText("f.yaml", "key: bad")}
    found = [
        error("CZ301", "wrong", Span("f.yaml", 1, 6, 1, 9), "so"),
        warning("CZ303", "odd", Span("f.yaml", 1, 1, 1, 4)),
    ]
    plain, coloured = render(found, source), render(found, source, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31merror[CZ301]\x1b[0m" in coloured
    assert "\x1b[1;33mwarning[CZ303]\x1b[0m" in coloured
    assert "\x1b[1;31m     ^^^\x1b[0m" in coloured


def test_the_command_colours_no_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compozy.yaml").write_text("name: demo\ntasks:\n  - {id: a, wth: {}, with: {}}\n")
    assert main(["validate", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert "1 warning; `compozy explain CZ303` says more" in said.err


def test_json_has_the_shape_of_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compozy.yaml").write_text(
        "name: demo\nworkflows: [{source: flows/größe.yaml}]\n", "utf-8"
    )
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "größe.yaml").write_text(
        "id: größe\ntasks:\n  - {id: a, wth: {}, with: {x: '{{ .nope }}'}, tool: t}\n", "utf-8"
    )
    assert main(["validate", str(tmp_path), "--format", "json"]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert "größe" in said.out
    data = json.loads(said.out)
    assert list(data) == ["ok", "errors", "warnings", "diagnostics"]
    assert (data["ok"], data["errors"], data["warnings"]) == (False, 2, 1)
    assert [list(one) for one in data["diagnostics"]] == [
        ["code", "severity", "message", "file", "line", "column", "end_line", "end_column", "hint"]
    ] * 3
    assert data["diagnostics"][0] == {
        "code": "CZ303",
        "severity": "warning",
        "message": "a task has no key `wth`; it is ignored",
        "file": "flows/größe.yaml",
        "line": 3,
        "column": 13,
        "end_line": 3,
        "end_column": 16,
        "hint": "did you mean `with`?",
    }


@pytest.mark.parametrize("strict", [False, True])
def test_a_warning_refuses_under_strict_only(
    strict: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compozy.yaml").write_text("name: demo\ntasks: [{id: a}]\n")
    flags = ["--strict"] if strict else []
    assert main(["validate", str(tmp_path), "--format", "json", *flags]) == int(strict)
    data = json.loads(capsys.readouterr().out)
    assert (data["ok"], data["errors"], data["warnings"]) == (not strict, 0, 1)


def test_a_valid_project_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compozy.yaml").write_text("name: demo\ntasks: [{id: a, with: {}}]\n")
    assert main(["validate", str(tmp_path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "errors": 0,
        "warnings": 0,
        "diagnostics": [],
    }


def test_without_a_span_the_positions_are_null() -> None:
    found = Diagnostic("CZ301", "error", "wrong")
    assert found.to_json() == {
        "code": "CZ301",
        "severity": "error",
        "message": "wrong",
        "file": None,
        "line": None,
        "column": None,
        "end_line": None,
        "end_column": None,
        "hint": None,
    }
    assert report([found, found])["errors"] == 1
    assert str(found) == "error[CZ301]: wrong"
    assert has_errors([found])
    assert not has_errors([])
