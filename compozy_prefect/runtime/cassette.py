"""Calls of models and tools on a file, and answers from it instead of a network.

    {"cassette": 1, "now": "2026-11-29T10:00:00Z"}
    {"kind": "model", "name": "greeter/greet", "asked": {…}, "answer": {…}}
    {"kind": "tool", "name": "search", "asked": {…}, "error": {…}}

A file that was fetched is a line, too, of the kind `file`; of files the digest is kept. One of the
kind `mcp` has the tools that an MCP server lists, where no lock says which it has; `resource` and
`prompt` are what prompts have read of a server, as `server/name`.

A line a call, written when it has ended, without the secrets of the run. Two runs that ask the same
get the same answers, so that what differs from run to run, the clock of templates and the id of the
execution, stands still on both sides.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import ModelFailed, NotRecorded, RunError, ToolFailed, UsageError
from compozy_prefect.runtime.llm.client import (
    Listener,
    ModelAnswer,
    ModelClient,
    ModelRequest,
    tell,
)
from compozy_prefect.runtime.llm.questions import answer_from, answer_to, question
from compozy_prefect.runtime.outcome import rfc3339
from compozy_prefect.runtime.redaction import Redactor

_T = TypeVar("_T")

FORMAT = 1
EXECUTION = "EXECUTION"  # stands for the id of the run
_KINDS = {"model": "agent and action", "file": "attachment", "mcp": "MCP server"}
_SHOWN = 24  # lines of a difference
_LONGEST = 20_000  # characters of a question that are compared to say what differs


class Cassette:
    """One file, to be recorded or to be replayed. `now` is the clock of templates.

    Use `record` or `replay`. Several runs may share one; `hide` and `stands_for` are told of the
    secrets and the id of each before it begins.
    """

    def __init__(self, path: Path, now: datetime, *, strict: bool = True) -> None:
        self.path, self.now = path, now
        self._strict = strict
        self._replays = False
        self._secrets: set[str] = set()
        self._redactor = Redactor(())
        self._ids: list[str] = []
        self._lock = Lock()
        self._by_question: dict[str, deque[dict[str, Any]]] = {}
        self._in_order: dict[tuple[str, str], deque[dict[str, Any]]] = {}

    @property
    def replays(self) -> bool:
        return self._replays

    @property
    def is_strict(self) -> bool:
        return self._strict

    @classmethod
    def record(cls, path: Path | str) -> Cassette:
        """A new cassette; what was in the file is gone. Raises UsageError when it is no place."""
        made = cls(Path(path), datetime.now(UTC).replace(microsecond=0))
        try:
            made.path.parent.mkdir(parents=True, exist_ok=True)
            made.path.unlink(missing_ok=True)
            made._write({"cassette": FORMAT, "now": rfc3339(made.now)})
        except OSError as fault:
            reason = (fault.strerror or str(fault)).lower()
            raise UsageError(f"{path} cannot be written: {reason}") from None
        return made

    @classmethod
    def continued(cls, path: Path | str) -> Cassette:
        """The cassette of a run that goes on: what it holds stays. Raises UsageError."""
        now, _ = _read(path)
        try:
            with open(path, "r+b") as file:
                text = file.read()
                end = text.rfind(b"\n") + 1
                if _is_whole(text[end:].decode("utf-8", "replace")):
                    file.write(b"\n")
                else:
                    file.truncate(end)
        except OSError as fault:
            reason = (fault.strerror or str(fault)).lower()
            raise UsageError(f"{path} cannot be written: {reason}") from None
        return cls(Path(path), now)

    @classmethod
    def replay(cls, path: Path | str, *, strict: bool = True) -> Cassette:
        """A cassette that answers. Raises UsageError when it cannot be read.

        One that is not `strict` gives a question that it does not hold the next answer of the same
        agent and action, or tool.
        """
        now, entries = _read(path)
        made = cls(Path(path), now, strict=strict)
        made._replays = True
        for entry in entries:
            key = _key(entry["kind"], entry["asked"])
            made._by_question.setdefault(key, deque()).append(entry)
            made._in_order.setdefault((entry["kind"], entry["name"]), deque()).append(entry)
        return made

    def hide(self, secrets: Iterable[str | None]) -> None:
        """None of these is written to the file, or told from a question that holds it."""
        self._secrets |= {secret for secret in secrets if secret}
        self._redactor = Redactor(self._secrets)

    def stands_for(self, execution_id: str) -> None:
        """The id of a run, which differs from that of another one."""
        self._ids.append(execution_id)

    def answer(self, kind: str, name: str, asked: Json) -> Json:
        """What was answered. Raises NotRecorded, and the error that was recorded."""
        asked = self._plain(asked)
        with self._lock:
            found = self._by_question.get(_key(kind, asked))
            if not found and not self._strict:
                found = self._in_order.get((kind, name))
            if not found:
                raise NotRecorded(self._unrecorded(kind, name, asked))
            # The last answer stays: a run that is resumed may ask again.
            entry = found.popleft() if len(found) > 1 else found[0]
        if "error" in entry:
            raise _error(kind, entry["error"])
        return entry["answer"]

    async def kept(
        self,
        kind: str,
        name: str,
        asked: Json,
        call: Callable[[], Awaitable[_T]],
        as_json: Callable[[_T], Json] = lambda answer: answer,
    ) -> _T:
        """What the call gives or raises, which is written to the file."""
        try:
            answer = await call()
        except RunError as fault:
            error = {
                "message": fault.message,
                "code": fault.code,
                "details": fault.details,
                "retryable": fault.retryable,
            }
            self._add(kind, name, asked, {"error": error})
            raise
        self._add(kind, name, asked, {"answer": as_json(answer)})
        return answer

    def _add(self, kind: str, name: str, asked: Json, outcome: dict[str, Json]) -> None:
        entry = {"kind": kind, "name": name, "asked": self._plain(asked)}
        try:
            self._write({**entry, **self._redactor.json(outcome)})
        except OSError as fault:
            raise RunError(
                f"the call cannot be recorded in {self.path}: {fault.strerror or fault}",
                code="NOT_RECORDED",
                retryable=False,
            ) from None

    def _write(self, entry: dict[str, Json]) -> None:
        text = json.dumps(entry, ensure_ascii=False, sort_keys=False) + "\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with self._lock, open(os.open(self.path, flags, 0o600), "a", encoding="utf-8") as file:
            file.write(text)

    def _plain(self, asked: Json) -> Json:
        """A question without secrets and without the id of the run."""
        text = json.dumps(self._redactor.json(asked), ensure_ascii=False)
        for id in self._ids:
            text = text.replace(id, EXECUTION)
        plain: Json = json.loads(text)
        return plain

    def _unrecorded(self, kind: str, name: str, asked: Json) -> str:
        what = f"{_KINDS.get(kind, kind)} `{name}`"
        known = self._in_order.get((kind, name))
        if not known:
            return f"{self.path} has no call of the {what}; record it again with --record"
        now = _lines(asked)
        nearest = max(known, key=lambda one: _likeness(_lines(one["asked"]), now))
        changed = list(
            difflib.unified_diff(
                _lines(nearest["asked"]), now, "recorded", "asked", n=1, lineterm=""
            )
        )
        shown = "\n".join(changed[:_SHOWN]) + ("\n…" if len(changed) > _SHOWN else "")
        return (
            f"{self.path} has no such call of the {what}; beside the nearest one that it has:\n"
            f"{shown}\nrecord it again with --record, or answer by order with --replay-loose"
        )


class TapedClient:
    """Answers from a cassette, or writes what `client` answers to it."""

    def __init__(self, cassette: Cassette, client: ModelClient | None) -> None:
        self._cassette, self._client = cassette, client

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        name, asked = f"{request.agent}/{request.action}", question(request)
        if self._cassette.replays or self._client is None:
            reply = answer_from(self._cassette.answer("model", name, asked))
            tell(reply.text, on_chunk)
            return reply
        make = partial(self._client.complete, request, on_chunk=on_chunk)
        return await self._cassette.kept("model", name, asked, make, answer_to)


def _read(path: Path | str) -> tuple[datetime, list[dict[str, Any]]]:
    """The clock of a cassette, and its calls. Raises UsageError.

    A last line that broke off, when the recording process died, is none.
    """
    try:
        data = Path(path).read_bytes()
        text = data.decode("utf-8", "ignore" if data[-1:] != b"\n" and b"\n" in data else "strict")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is no text"
        raise UsageError(f"{path} cannot be read: {reason.lower()}") from None
    # No `splitlines`: an answer may hold what some take for the end of a line.
    *lines, last = text.split("\n")
    lines += [last] if _is_whole(last) else []
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line]
    head = entries.pop(0) if entries else {}
    try:
        if head.get("cassette") != FORMAT:
            raise ValueError
        return datetime.fromisoformat(str(head.get("now"))), entries
    except ValueError:
        raise UsageError(f"{path} is no cassette: its first line is not that of one") from None


def _is_whole(line: str) -> bool:
    """Whether the last line, which no newline ends, is a call all the same."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _entry(path: Path | str, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict) or not (
            "cassette" in entry or {"kind", "asked"} <= entry.keys()
        ):
            raise ValueError("it is no call")
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"{path}:{number} is no line of a cassette: {fault}") from None
    return entry


def _error(kind: str, error: dict[str, Any]) -> RunError:
    made = {"model": ModelFailed, "tool": ToolFailed}.get(kind, RunError)
    return made(
        error["message"],
        code=error["code"],
        details=error["details"],
        retryable=error["retryable"],
    )


def _key(kind: str, asked: Json) -> str:
    return hashlib.sha256(canonical([kind, asked])).hexdigest()


def _lines(asked: Json) -> list[str]:
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True, indent=2)
    return text.replace("\\n", "\n")[:_LONGEST].splitlines()


def _likeness(one: list[str], other: list[str]) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).quick_ratio()
