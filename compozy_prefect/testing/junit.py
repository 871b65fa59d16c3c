"""How cases ended → JUnit XML, as CI systems read it: a suite for each test file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from xml.etree import ElementTree

from compozy_prefect.testing.cases import Finished
from compozy_prefect.testing.report import Report, explained

# What XML 1.0 has no way to say, not even escaped; lone halves of characters among it.
_REFUSED = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report, started: datetime) -> str:
    """The XML of a report, with a declaration and a newline at its end."""
    root = ElementTree.Element("testsuites", {"name": "compozy test"})
    _count(root, report.finished, report.seconds)
    for file, cases in groupby(report.finished, key=lambda one: one.case.file):
        listed = list(cases)
        suite = ElementTree.SubElement(root, "testsuite", {"name": _text(file)})
        _count(suite, listed, sum(one.seconds for one in listed))
        suite.set("timestamp", started.strftime("%Y-%m-%dT%H:%M:%S"))
        for one in listed:
            suite.append(_case(one))
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _count(element: ElementTree.Element, cases: Sequence[Finished], seconds: float) -> None:
    ended = [one.status for one in cases]
    element.set("tests", str(len(ended)))
    for name, status in (("failures", "failed"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(ended.count(status)))  # type: ignore[arg-type]
    element.set("time", f"{seconds:.3f}")


def _case(one: Finished) -> ElementTree.Element:
    case = one.case
    element = ElementTree.Element(
        "testcase",
        {
            "classname": _text(f"{case.file.removesuffix('.yaml').removesuffix('.yml')}"),
            "name": _text(case.name),
            "file": _text(case.file),
            "line": str(case.span.line),
            "time": f"{one.seconds:.3f}",
        },
    )
    if one.status == "passed":
        return element
    first = next((f"{found.path}: {found.said()}" for found in one.differences), "")
    message = _text(one.message or first)
    tag = {"failed": "failure", "error": "error", "skipped": "skipped"}[one.status]
    told = ElementTree.SubElement(element, tag, {"message": message})
    if one.status != "skipped":
        told.set("type", "difference" if one.differences else "run")
        told.text = _text("\n".join(explained(one, {})))
    return element


def _text(text: str) -> str:
    """Text with what XML cannot hold written out, as `\\x1b`."""
    return _REFUSED.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
