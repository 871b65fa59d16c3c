"""Built-in tools for files, programs and the web: what they take and give (language.md §6.5)."""

from __future__ import annotations

from collections.abc import Mapping

from compozy_prefect.compiler.plan import Json, ToolPlan

PAGE = 200  # entries of one answer of `cp__list_dir`
_LARGEST_PAGE = 1000
_WHAT = "from the project's folder, or the first of the folders that it allows"

_TEXT: Json = {"type": "string"}
_PATH: Json = {"type": "string", "minLength": 1, "description": f"A path, {_WHAT}."}
_NO: Json = {"type": "boolean", "default": False}
_YES: Json = {"type": "boolean", "default": True}
_GLOBS: Json = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "description": "Patterns of names to leave out, such as `*.log`; `**` crosses folders.",
}
_METADATA: Json = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "size": {"type": "integer"},
        "mode": {"type": "string"},
        "modified": {"type": "string"},
    },
}


def _tool(
    id: str,
    description: str,
    takes: dict[str, Json],
    required: list[str],
    gives: dict[str, Json],
    timeout: float = 60.0,
    type: str = "native",
) -> ToolPlan:
    return ToolPlan(
        id,
        type=type,
        description=description,
        input_schema={
            "type": "object",
            "properties": takes,
            "required": required,
            "additionalProperties": False,
        },
        output_schema={"type": "object", "properties": gives, "required": [*gives]},
        timeout=timeout,
    )


def _whole(most: int, default: int | None = None) -> Json:
    out: dict[str, Json] = {"type": "integer", "minimum": 1, "maximum": most}
    return out if default is None else {**out, "default": default}


_ALL = (
    _tool(
        "cp__read_file",
        "Reads a text file.",
        {"path": _PATH},
        ["path"],
        {"content": _TEXT, "metadata": _METADATA},
    ),
    _tool(
        "cp__write_file",
        "Writes a text file, and the folders that it needs.",
        {
            "path": _PATH,
            "content": _TEXT,
            "append": {**_NO, "description": "Adds to the end of the file."},
            "mode": {
                "type": ["string", "integer"],
                "description": "Its permissions, as `0644`.",
            },
        },
        ["path", "content"],
        {"success": {"type": "boolean"}, "metadata": _METADATA},
    ),
    _tool(
        "cp__delete_file",
        "Deletes a file, or a folder; `success` is false when there is none.",
        {"path": _PATH, "recursive": {**_NO, "description": "Deletes what is in a folder too."}},
        ["path"],
        {"success": {"type": "boolean"}},
    ),
    _tool(
        "cp__list_files",
        "Lists the files of a folder.",
        {"dir": _PATH, "exclude": _GLOBS, "recursive": _NO},
        ["dir"],
        {"files": {"type": "array", "items": _TEXT}},
    ),
    _tool(
        "cp__list_dir",
        "Lists what is in a folder, page by page.",
        {
            "path": _PATH,
            "pattern": {**_TEXT, "description": "Of names, such as `*.md`; `**` crosses folders."},
            "recursive": _NO,
            "include_files": _YES,
            "include_dirs": _YES,
            "page_size": _whole(_LARGEST_PAGE, PAGE),
            "page_token": {**_TEXT, "description": "The `next_page_token` of the page before."},
        },
        ["path"],
        {
            "entries": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": _TEXT,
                        "path": _TEXT,
                        "type": {"enum": ["file", "dir", "link"]},
                        "size": {"type": "integer"},
                        "modified": _TEXT,
                    },
                },
            },
            "next_page_token": _TEXT,
        },
    ),
    _tool(
        "cp__grep",
        "Finds lines of text files by a regular expression, in the syntax of RE2.",
        {
            "pattern": {"type": "string", "minLength": 1},
            "path": _PATH,
            "recursive": _NO,
            "ignore_case": _NO,
            "max_results": _whole(10_000, 1000),
            "max_files_visited": _whole(100_000, 10_000),
            "max_file_bytes": _whole(10 << 20, 1 << 20),
        },
        ["pattern", "path"],
        {
            "matches": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "file": _TEXT,
                        "line": {"type": "integer"},
                        "column": {"type": "integer"},
                        "text": _TEXT,
                    },
                },
            }
        },
    ),
    _tool(
        "cp__exec",
        "Starts one of the programs that the project allows, without a shell.",
        {
            "command": {"type": "string", "minLength": 1, "description": "A name or a whole path."},
            "args": {"type": "array", "items": _TEXT, "description": "One element an argument."},
            "working_dir": {**_TEXT, "description": f"A folder, {_WHAT}."},
            "timeout_ms": {"type": "integer", "minimum": 0},
            "env": {"type": "object", "additionalProperties": _TEXT},
        },
        ["command"],
        {
            "stdout": _TEXT,
            "stderr": _TEXT,
            "exit_code": {"type": "integer"},
            "success": {"type": "boolean"},
            "duration_ms": {"type": "integer"},
            "timed_out": {"type": "boolean"},
            "stdout_truncated": {"type": "boolean"},
            "stderr_truncated": {"type": "boolean"},
        },
        timeout=0.0,
    ),
    _tool(
        "cp__fetch",
        "Asks a web server, and gives what it answers.",
        {
            "url": {"type": "string", "minLength": 1, "description": "Of http or https."},
            "method": {**_TEXT, "description": "`GET` unless given."},
            "headers": {"type": "object", "additionalProperties": _TEXT},
            "body": {"description": "Text, or a value that is sent as JSON."},
            "timeout_ms": {"type": "integer", "minimum": 0},
        },
        ["url"],
        {
            "status_code": {"type": "integer"},
            "status_text": _TEXT,
            "headers": {"type": "object", "additionalProperties": _TEXT},
            "body": _TEXT,
            "body_truncated": {"type": "boolean"},
            "duration_ms": {"type": "integer"},
        },
        timeout=0.0,
        type="fetch",  # it is of no use without a network
    ),
)

NATIVES: Mapping[str, ToolPlan] = {tool.id: tool for tool in _ALL}
