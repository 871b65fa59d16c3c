"""Calls the functions of one module for the process that started it; see `call.py`.

It runs in a fork of `processes/guard.py`. Requests come in on stdin and answers go out on stdout, a
line of JSON each; then both are others: what the functions print, and what they start prints, is
the log on stderr.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

_MOST_STACK = 4000


def main(argv: list[str]) -> None:
    """`argv` is the project's folder and the name of the module. Ends with the requests."""
    root, name = argv
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.path.insert(0, root)
    sys.dont_write_bytecode = True  # nothing appears in the project by being called
    sys.argv = [name]
    own = os.getpid()
    word = ""
    loop: list[asyncio.Runner] = []
    for line in requests:
        request = json.loads(line)
        if not word:
            word = request["word"]
            continue
        try:
            body = _json(_result(name, request, loop))
        except BaseException as fault:  # also what ends a program
            body = f'"error":{json.dumps(_told(fault, name, root))}'
        if os.getpid() != own:
            os._exit(0)  # a fork that came back
        _flush()
        _write(answers, f'\n{word} {{"id":{request["id"]},{body}}}\n'.encode())
    os._exit(0)


_known: dict[str, tuple[Any, inspect.Signature | None]] = {}


def _result(name: str, request: dict[str, Any], loop: list[asyncio.Runner]) -> object:
    tool = request["tool"]
    if tool not in _known:
        _known[tool] = _found(name, tool)
    function, signature = _known[tool]
    given = _arguments(function, signature, request["input"], request["config"])
    result = function(**given)
    if inspect.isawaitable(result):
        import asyncio

        if not loop:
            loop.append(asyncio.Runner())
        result = loop[0].run(_awaited(result))
    return result


def _found(name: str, tool: str) -> tuple[Any, inspect.Signature | None]:
    """A function and its parameters, which of a builtin nobody may know."""
    found = importlib.import_module(name)
    function: Any = found
    for part in tool.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise Missing(tool, found)
    try:
        return function, inspect.signature(function)
    except (TypeError, ValueError):
        return function, None


def _json(result: object) -> str:
    try:
        return f'"result":{json.dumps(result, allow_nan=False)}'
    except (TypeError, ValueError, RecursionError) as fault:
        raise NoJson(f"the result is no JSON: {fault}") from None


async def _awaited(result: Any) -> object:
    return await result


class Missing(Exception):
    """A name that is no function of the module; the text lists those there are."""

    def __init__(self, name: str, module: object) -> None:
        known = [one for one, value in vars(module).items() if inspect.isfunction(value)]
        super().__init__(", ".join(sorted(one for one in known if one[:1] != "_")) or "none")


class NoJson(Exception):
    """A result that cannot be told."""


class Unfit(Exception):
    """An input that does not fit the parameters; the text says how."""


def _arguments(
    function: Callable[..., object],
    signature: inspect.Signature | None,
    given: dict[str, Any],
    config: dict[str, Any],
) -> dict[str, Any]:
    if signature is None:
        return given
    if "config" in signature.parameters and "config" not in given:
        given = {**given, "config": config}
    try:
        signature.bind(**given)
    except TypeError as fault:
        raise Unfit(
            f"the input does not fit `{getattr(function, '__name__', '')}{signature}`: {fault}"
        ) from None
    return given


def _told(fault: BaseException, name: str, root: str) -> dict[str, Any]:
    kind, message = type(fault).__name__, str(fault) or type(fault).__name__
    if isinstance(fault, ModuleNotFoundError) and f"{name}.".startswith(f"{fault.name}."):
        kind = "MissingModule"
    elif isinstance(fault, SystemExit):
        message = f"it called sys.exit({fault.code!r})"
    file, line = _place(fault, root)
    stack = "".join(traceback.format_exception(fault))
    own = f'File "{__file__}"'
    kept = [part for part in stack.split("\n  File ") if own not in f"File {part}"]
    return {
        "name": kind,
        "message": message,
        "stack": "\n  File ".join(kept).replace(root + os.sep, "")[-_MOST_STACK:],
        "file": file,
        "line": line,
    }


def _place(fault: BaseException, root: str) -> tuple[str, int]:
    """The last line of the project in the stack, its file from there; else the last of all."""
    frames = [
        (frame.filename, frame.lineno or 0)
        for frame in traceback.extract_tb(fault.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith(("<frozen", os.path.dirname(json.__file__)))
    ]
    if isinstance(fault, SyntaxError) and fault.filename:
        frames.append((fault.filename, fault.lineno or 0))
    inside = [frame for frame in frames if frame[0].startswith(root + os.sep)]
    if not frames:
        return "", 0
    file, line = (inside or frames)[-1]
    return file.removeprefix(root + os.sep), line


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue


def _write(fd: int, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(fd, rest) :]
