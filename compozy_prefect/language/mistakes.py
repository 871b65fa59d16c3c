"""What the YAML parser stumbled over → a sentence for the person who wrote it.

The C parser names the state it was in ("did not find expected key"). The text around the place
says what was meant: the mistakes people make are few, and each has its hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from yaml.error import MarkedYAMLError

from compozy_prefect.diagnostics import Diagnostic, error
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import File

UNQUOTED = "a value with a template needs quotes here: YAML reads `{{` as a map"

# A line whose value starts with `{{`: after the indentation, dashes, a key, an open bracket.
_TEMPLATE = re.compile(r"(?:^[ ]*|(?<=[:\-,\[{][ ])[ ]*|(?<=[\[,])[ ]*)(?P<template>\{\{.*)", re.M)
_BREAK = re.compile(r"\r\n|\n|\r")

_PROBLEMS = {
    "mapping values are not allowed in this context": "a `:` that starts a value cannot stand here",
    "found character that cannot start any token": "a value cannot start with {char}",
    "could not find expected ':'": "a line lacks the `:` of a key",
    "did not find expected key": "this is not the key that should follow",
    "did not find expected '-' indicator": "this is not the `-` that should follow",
    "did not find expected ',' or ']'": "a `,` or the closing `]` is missing",
    "did not find expected ',' or '}'": "a `,` or the closing `}}` is missing",
    "did not find expected node content": "a value is missing",
    "found unexpected end of stream": "the closing quote is missing",
    "found unexpected document indicator": "the closing quote is missing",
    "found unknown escape character": "{char} cannot follow a backslash in double quotes",
    "did not find expected hexdecimal number": "the escape needs hexadecimal digits",
    "found invalid Unicode character escape code": "the escape names no character",
    "block sequence entries are not allowed in this context": "a list item cannot start here",
    "mapping keys are not allowed in this context": "a key cannot start here",
    "did not find expected alphabetic or numeric character": "`&` and `*` need a name after them",
    "found undefined tag handle": "the tag's prefix is not declared",
    "did not find expected comment or line break": "after `|` or `>` the text starts on a new line",
    "did not find expected <document start>": "the value of the whole file ended before this",
}
_CONTEXTS = {
    "while scanning a quoted scalar": "the quoted text",
    "while parsing a block mapping": "the map",
    "while parsing a block collection": "the list",
    "while parsing a flow sequence": "the list",
    "while parsing a flow mapping": "the map",
    "while scanning a simple key": "the line",
    "while scanning a block scalar": "the block",
}
_QUOTE_IT = "put the whole value in quotes"


def quoted_hint(template: str) -> str:
    """The template as it should be written."""
    template = _BREAK.split(template)[0].strip()
    if len(template) > 60:
        return "put the value in quotes, or into a block that starts with `|`"
    if '"' not in template:
        return f'write "{template}"'
    return "write '{}'".format(template.replace("'", "''"))


def alias_hint(name: str, anchors: Iterable[str]) -> str | None:
    near = nearest(name, anchors)
    return f"did you mean *{near}?" if near else f"quote it if `*{name}` is meant as text"


def explain(problem: MarkedYAMLError, file: File, last: int) -> Diagnostic:
    """`last` is where the last thing that the parser understood starts."""
    text = file.source.text
    mark = problem.problem_mark
    at = min(mark.index, len(text)) if mark else len(text)
    template = _unquoted_template(text, min(last, at), at)
    if template is not None:
        start, end = template
        return error("CZ106", UNQUOTED, file.span(start, end), quoted_hint(text[start:end]))

    found = str(problem.problem or "the text is no YAML")
    line_start = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1
    before = text[line_start:at]
    char = text[at : at + 1]
    sentence, hint = _sentence(found, text, at, before, last)
    if sentence is None:
        if "escape" in found:
            char = text[at + 1 : at + 2]
        shown = f"`{char}`" if char.strip() else "the end of the line"
        sentence = _PROBLEMS.get(found, found.replace("{", "{{").replace("}", "}}"))
        sentence = sentence.format(char=shown)
    context = _CONTEXTS.get(str(problem.context))
    if context is not None and problem.context_mark is not None:
        began = problem.context_mark
        place = file.span(began.index, began.index)
        sentence += f"; {context} starts in line {place.line}, column {place.column}"
    end = at + 1 if char.strip() or char == "\t" else at
    return error("CZ101", sentence, file.span(at, end), hint)


def _sentence(
    found: str, text: str, at: int, before: str, last: int
) -> tuple[str | None, str | None]:
    """A better sentence than the parser's, and a hint, where the text shows what happened."""
    char = text[at : at + 1]
    if (
        char == "\t"
        or "tab character" in found
        or "\t" in before[: len(before) - len(before.lstrip())]
    ):
        return "a tab where YAML expects spaces", "indent with spaces, two for each level"
    if found.startswith("mapping values"):
        if re.search(r":[ \t]|^\s*- .*:[ \t]", before):
            return (
                "a second `: ` in one line: the value has to be quoted",
                f"{_QUOTE_IT}, or write it below the key, indented",
            )
        line = re.search(
            r"^[ \t-]*([\w.-]+):(?![\s/])[^\r\n]*(?:\r\n|\n|\r)[^\r\n]*\Z", text[:at], re.M
        )
        if line is not None:
            return f"a space is missing behind `{line[1]}:` in the line above", None
        return (
            "a key cannot stand here, inside the value that began above it",
            "start it in the same column as the keys beside it, and close the quotes above",
        )
    if found.startswith("found character that cannot start"):
        return None, f"{_QUOTE_IT}: @, ` and % cannot start a plain one"
    if found in ("found unexpected end of stream", "found unexpected document indicator"):
        return None, "close the quote, or double it if it belongs to the text"
    if "expected key" in found or "'-' indicator" in found:
        if not before.strip():
            spaces = len(before)
            return (
                f"the line is indented by {spaces} space{'' if spaces == 1 else 's'}, "
                "which fits nothing above it",
                "keys of one map, and items of one list, start in the same column",
            )
        if before.rstrip().endswith(("'", '"')):
            return (
                "text after the closing quote",
                "a quote inside the text: write '' within single quotes, \\\" within double ones",
            )
        return "text after the end of the value", _QUOTE_IT
    if "expected ','" in found:
        if not char:
            return None, "close the bracket"
        return None, "check for a missing comma or bracket, and quote values with : { } [ ] or ,"
    if found == "could not find expected ':'":
        return None, "write `key: value`, or indent the line if it continues the value above"
    if found == "found unknown escape character":
        return None, "write the backslash twice, or use single quotes"
    if found == "did not find expected node content" and char in ("]", "}", ","):
        return f"a value is missing before `{char}`", "quote the value if the bracket belongs to it"
    return None, None


def _unquoted_template(text: str, last: int, at: int) -> tuple[int, int] | None:
    """The template that made the parser stumble at `at`, if it stands unquoted there or before."""
    first = max(text.rfind("\n", 0, last), text.rfind("\r", 0, last)) + 1
    until = _BREAK.search(text, at)
    for match in _TEMPLATE.finditer(text, first, until.start() if until else len(text)):
        start = match.start("template")
        if _in_quotes_or_comment(text[first:start]) or start > at:
            continue
        end = match.end("template")
        comment = re.search(r"\s+#", text[start:end])
        end = start + comment.start() if comment else end
        return start, start + len(text[start:end].rstrip())
    if text.startswith("{{", at):  # inside a map or list in brackets: `{a: Hello {{ .b }}}`
        close = text.find("}}", at)
        value = re.search(r"[^\s,:\[{][^,:\[{\r\n]*\Z", text[max(0, at - 200) : at])
        return at - len(value[0]) if value else at, close + 2 if close > 0 else at + 2
    return None


def _in_quotes_or_comment(before: str) -> bool:
    line = before.rpartition("\n")[2]
    return re.search(r"(?:^|\s)#", line) is not None or line.count('"') % 2 == 1
