"""What is printed of cases, as lines, as an object and as JUnit XML."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

from compozy_prefect.diagnostics import SourceText, Span
from compozy_prefect.runtime.outcome import Failure
from compozy_prefect.testing.cases import Case, Finished
from compozy_prefect.testing.expect import Fields, Same
from compozy_prefect.testing.junit import junit
from compozy_prefect.testing.match import NOTHING, Difference
from compozy_prefect.testing.report import Report, explained, line, summary

TEXT = "cases:\n  - name: a\n    expect: {output: {v: 1}}\n"
SOURCES = {"a.test.yaml": SourceText("a.test.yaml", TEXT)}
NAME, VALUE = Span("a.test.yaml", 2, 11, 2, 12), Span("a.test.yaml", 3, 26, 3, 27)
CASE = Case("a.test.yaml", "a", NAME, "flow", {}, Fields(NAME, {}, {}))
FAILED = Finished(
    CASE,
    "failed",
    seconds=0.256,
    differences=(
        Difference("output.v", Same(VALUE, 1), 2),
        Difference("output.w", Same(VALUE, None), NOTHING),
    ),
    failure=Failure(
        "task `x` failed:\n  no", "X", {"file": "compozy.yaml", "line": 3, "column": 4}
    ),
    execution_id="an-id",
    ui_url="http://127.0.0.1/runs/flow-run/an-id",
)
LATE = Finished(replace(CASE, name="b"), "failed", seconds=60.0, message="it took longer than 60 s")
BROKEN = Finished(replace(CASE, name="c"), "error", message="no key")
PASSED = Finished(replace(CASE, file="b.test.yml", name="d"), "passed", seconds=1.0)
SKIPPED = Finished(replace(CASE, file="b.test.yml", name="e"), "skipped", message="later")
REPORT = Report([FAILED, LATE, BROKEN, PASSED, SKIPPED], 61.5)


def test_lines() -> None:
    assert [line(one, colour=False) for one in REPORT.finished] == [
        "  ✗ a  0.26 s",
        "  ✗ b  60.00 s",
        "  ! c  0.00 s",
        "  ✓ d  1.00 s",
        "  - e  (later)",
    ]
    assert line(PASSED, colour=True) == "  \x1b[32m✓\x1b[0m d  1.00 s"
    assert summary(REPORT) == "1 passed, 2 failed, 1 could not be run, 1 skipped in 61.5 s"
    assert summary(Report([PASSED], 1.0)) == "1 passed in 1.0 s"


def test_why() -> None:
    assert "\n".join(explained(FAILED, SOURCES)) == (
        "a.test.yaml:2: a\n"
        "  output.v: expected 1, saw 2\n"
        "   --> a.test.yaml:3:26\n"
        "    |\n"
        "  3 |     expect: {output: {v: 1}}\n"
        "    |                          ^\n"
        "  output.w: expected null, saw nothing\n"
        "   --> a.test.yaml:3:26\n"
        "    |\n"
        "  3 |     expect: {output: {v: 1}}\n"
        "    |                          ^\n"
        "  the run failed: task `x` failed: no  (compozy.yaml:3:4)\n"
        "  http://127.0.0.1/runs/flow-run/an-id"
    )
    assert "\n".join(explained(LATE, SOURCES)) == (
        "a.test.yaml:2: b\n"
        "  it took longer than 60 s\n"
        "   --> a.test.yaml:2:11\n"
        "    |\n"
        "  2 |   - name: a\n"
        "    |           ^"
    )


def test_nothing_steers_the_terminal() -> None:
    bad = replace(
        FAILED,
        case=replace(CASE, name="\x1b[31mred\n"),
        message="\x1b]0;title\x07",
        differences=(Difference("a\x1b", Same(VALUE, "\x1b[1m" * 9 + "x"), "\x1b[2m" * 9 + "\r"),),
    )
    told = [*explained(bad, SOURCES), line(bad, colour=False)]
    assert "\x1b" not in "".join(told)
    assert "\r" not in "".join(told)


def test_as_an_object() -> None:
    data = json.loads(json.dumps(REPORT.to_json()))
    cases = data.pop("cases")
    assert data == {
        "ok": False,
        "passed": 1,
        "failed": 2,
        "errors": 1,
        "skipped": 1,
        "duration_seconds": 61.5,
        "coverage": None,
    }
    assert [case["status"] for case in cases] == ["failed", "failed", "error", "passed", "skipped"]
    first = cases[0]
    assert first["differences"][1] == {
        "path": "output.w",
        "expected": None,
        "message": "expected null, saw nothing",
        "file": "a.test.yaml",
        "line": 3,
        "column": 26,
        "end_line": 3,
        "end_column": 27,
    }
    assert first["differences"][0]["seen"] == 2
    assert first["error"]["code"] == "X"
    assert (first["file"], first["line"], first["workflow_id"]) == ("a.test.yaml", 2, "flow")
    assert (first["execution_id"], first["duration_seconds"]) == ("an-id", 0.256)
    assert cases[1]["message"] == "it took longer than 60 s"
    assert cases[3]["message"] is None
    assert Report([PASSED, SKIPPED], 1.0).to_json()["ok"] is True


STARTED = datetime(2025, 3, 1, 12, 30, 5, tzinfo=UTC)


def test_as_junit() -> None:
    text = junit(REPORT, STARTED)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ')
    root = ElementTree.fromstring(text)
    counts = {"tests": "5", "failures": "2", "errors": "1", "skipped": "1", "time": "61.500"}
    assert root.attrib == {"name": "compozy test", **counts}
    first, second = root.findall("testsuite")
    assert first.attrib == {
        "name": "a.test.yaml",
        "tests": "3",
        "failures": "2",
        "errors": "1",
        "skipped": "0",
        "time": "60.256",
        "timestamp": "2025-03-01T12:30:05",
    }
    assert (second.get("tests"), second.get("skipped")) == ("2", "1")
    failed, late, broken = first.findall("testcase")
    assert failed.attrib == {
        "classname": "a.test",
        "name": "a",
        "file": "a.test.yaml",
        "line": "2",
        "time": "0.256",
    }
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("message") == "output.v: expected 1, saw 2"
    assert failure.text is not None
    assert "output.w: expected null, saw nothing" in failure.text
    assert [child.tag for child in late] == ["failure"]
    assert [(child.tag, child.get("message")) for child in broken] == [("error", "no key")]
    passed, skipped = second.findall("testcase")
    assert list(passed) == []
    assert [(child.tag, child.get("message")) for child in skipped] == [("skipped", "later")]


def test_junit_holds_anything() -> None:
    name = "<a & 'b' \"c\"> \x00\x1b\ud800\uffff 漢\U0001f600"
    bad = replace(FAILED, case=replace(CASE, name=name), message="]]>\x0b")
    text = junit(Report([bad], 1.0), STARTED)
    text.encode("utf-8")
    case = ElementTree.fromstring(text).find("testsuite/testcase")
    assert case is not None
    assert case.get("name") == "<a & 'b' \"c\"> \\x00\\x1b\\ud800\\uffff 漢\U0001f600"
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "]]>\\x0b"


def test_junit_of_nothing() -> None:
    root = ElementTree.fromstring(junit(Report([], 0.0), STARTED))
    assert (root.get("tests"), list(root)) == ("0", [])
