"""One process that makes calls, one at a time.

A line of JSON goes in on the first of its three streams and an answer comes out on the second,
behind a word that only this side and the trusted script over there know: anything else that comes
out was printed by the tool, and is its log, like all that comes out of the third. The process
belongs to no event loop; whoever has a call to make brings one.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Protocol

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.processes import pipes, watchdog

MOST_OUTPUT = 10 << 20  # bytes of a call: its result, and all that it prints
MOST_PRINTED = 1 << 20  # bytes of that which are kept
_FULL = 0.75  # of the memory: a process that keeps that much makes no further call
IDLE_SECONDS = 60.0  # after which a process ends
_AFTERWARDS = 2.0  # seconds of processor time that may be taken after a call


class CallFailed(Exception):
    """A call without a result.

    `kind` is `thrown` (`name`, `message` and `stack` are those of the language), `timeout`,
    `memory`, `cpu`, `processes`, `output`, `exit`, `start` or `protocol`. After all but the first
    the process is gone. `at` is a file and a line in it, where they are known.
    """

    def __init__(
        self,
        kind: str,
        message: str = "",
        name: str = "",
        stack: str = "",
        at: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.name, self.stack, self.at = kind, message, name, stack, at


class Process(Protocol):
    """A process that was started. `pid` is the one that is measured, `reason` the limit that ended
    it, where something else than this side watches. `streams`: requests, answers, log."""

    pid: int
    streams: tuple[IO[bytes], IO[bytes], IO[bytes]]
    reason: str

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, seconds: float) -> None:
        """Raises subprocess.TimeoutExpired."""
        ...

    def kill(self) -> None:
        """Ends it, and all that it started."""
        ...

    def forget(self) -> None:
        """Lets go of it in a child that was forked, or when it is over."""
        ...


Explain = Callable[[int | None, str, bool], CallFailed | None]
"""What the end of a process says, by its code, its last words, and whether it was in its first
call; None if nothing in particular."""


class Worker:
    """A process. `memory_limit` is in bytes; `killed` is why it was ended, if it was.

    `head` is what it is told before its first call, beside the word.
    """

    def __init__(
        self, process: Process, memory: int, head: dict[str, Json], explain: Explain
    ) -> None:
        self.pid = process.pid
        self.memory_limit = memory
        self.processor_end = float(watchdog.LIFE_SECONDS)
        self.killed = ""
        self.printed = b""
        self._process = process
        self._word = secrets.token_hex(16)
        self._calls = 0
        self._busy = False
        self._idle_since = time.monotonic()
        self._explain = explain
        for stream in process.streams:
            os.set_blocking(stream.fileno(), False)
        self._head = json.dumps({"word": self._word, **head}) + "\n"

    async def call(self, tool: str, input: Json, config: Json, seconds: float | None) -> Json:
        """What the function gives. What it printed is then in `printed`. Raises CallFailed.

        The process is gone when a call is broken off, for whatever reason.
        """
        self._calls += 1
        body = json.dumps(
            {"id": self._calls, "tool": tool, "input": input, "config": config}, allow_nan=False
        )
        head, self._head = self._head, ""
        talk = _Talk(self._process.streams, f"{head}{body}\n".encode(), self._word, self._calls)
        self._busy = True
        self._may_take(seconds or watchdog.LIFE_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                answer = await talk.answer()
        except BaseException as fault:
            why = "timeout" if isinstance(fault, TimeoutError) else "end"
            if isinstance(fault, _Ended):
                await self._exited()
            self.kill(fault.kind if isinstance(fault, CallFailed) else why)
            raise self._failure(fault, talk, seconds) from None
        finally:
            talk.close()
            self.printed = bytes(talk.printed)
            self._busy = False
            self._idle_since = time.monotonic()
        if "error" in answer:
            error = answer["error"]
            at = (error["file"], error["line"]) if error.get("file") else None
            raise CallFailed("thrown", error["message"], error["name"], error["stack"], at)
        return answer["result"]

    def _failure(self, fault: BaseException, talk: _Talk, seconds: float | None) -> BaseException:
        if isinstance(fault, TimeoutError):
            return CallFailed("timeout", f"it did not answer within {seconds:g} s")
        if not isinstance(fault, _Ended):
            return fault
        code = self._process.returncode
        said = talk.printed.decode("utf-8", "replace").strip()
        particular = self._explain(code, said, self._calls == 1)
        why = self._process.reason or self.killed or (particular.kind if particular else "")
        if why == "memory":
            limit = self.memory_limit >> 20
            return CallFailed("memory", f"it took more memory than its limit, {limit} MiB")
        if why == "processes":
            return CallFailed("processes", "it started more processes than it may")
        if why == "cpu" or code == -signal.SIGXCPU:
            return CallFailed("cpu", "it took more processor time than its limit")
        if particular is not None:
            return particular
        how = f"with signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return CallFailed("exit", f"it ended its process, {how}")

    async def _exited(self) -> None:
        """Waits a moment for a process that has closed its output."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, 1.0)

    @property
    def is_alive(self) -> bool:
        return not self.killed and self._process.poll() is None

    def is_fit(self) -> bool:
        """Whether it may make another call after the one that has ended."""
        if not self.is_alive:
            return False
        if watchdog.processor_seconds(self.pid) > watchdog.LIFE_SECONDS / 2:
            return False
        return watchdog.memory(self.pid) < self.memory_limit * _FULL

    def rest(self) -> None:
        """What a tool left running has little time; it is the next call's that it would take."""
        self._may_take(_AFTERWARDS)

    def _may_take(self, seconds: float) -> None:
        """Processor time, from now on; that of all threads, so that many take it sooner."""
        self.processor_end = watchdog.processor_seconds(self.pid) + seconds
        watchdog.bound_processor(self.pid, self.processor_end)

    def look(self, now: float) -> bool:
        if not self._busy and now - self._idle_since > IDLE_SECONDS:
            self.kill("idle")
        return self._busy

    def kill(self, why: str) -> None:
        """Ends the process and what it started; without effect on one that has ended."""
        self.killed = self.killed or why
        self._process.kill()

    def close(self) -> None:
        """Ends it and waits for it, some milliseconds."""
        self.kill("closed")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10.0)
        self._process.forget()

    def forget(self) -> None:
        """Lets go of it in a child that was forked, and leaves it to the parent."""
        self._process.forget()


class _Ended(CallFailed):
    def __init__(self) -> None:
        super().__init__("exit")


class _Talk:
    """One call on the pipes of a process, in the event loop that runs."""

    def __init__(
        self, streams: tuple[IO[bytes], ...], request: bytes, word: str, number: int
    ) -> None:
        self.printed = bytearray()
        self._in, self._out, self._err = (stream.fileno() for stream in streams)
        self._rest = memoryview(request)
        self._word = f"{word} ".encode()
        self._number = number
        self._line = bytearray()
        self._searched = 0
        self._taken = 0
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Json] = self._loop.create_future()

    async def answer(self) -> Json:
        self._loop.add_reader(self._out, self._read_out)
        self._loop.add_reader(self._err, self._read_err)
        self._write()
        return await self._done

    def close(self) -> None:
        for fd in (self._out, self._err):
            self._loop.remove_reader(fd)
        self._loop.remove_writer(self._in)
        self._read_err()  # what it said before it answered is there
        if self._done.done() and not self._done.cancelled():
            self._done.exception()
        self._done.cancel()

    def _write(self) -> None:
        self._rest = pipes.write(self._in, self._rest)  # an end is noticed where it speaks
        if self._rest:
            self._loop.add_writer(self._in, self._write)
        else:
            self._loop.remove_writer(self._in)

    def _read_out(self) -> None:
        chunk = self._read(self._out)
        if chunk is None:
            return
        if not chunk:
            self._loop.remove_reader(self._out)
            return self._end(_Ended())
        self._line += chunk
        self._lines()
        return None

    def _lines(self) -> None:
        while (end := self._line.find(b"\n", self._searched)) >= 0:
            line = bytes(self._line[:end])
            del self._line[: end + 1]
            self._searched = 0
            if line.startswith(self._word):
                self._answered(line[len(self._word) :])
            elif line:
                self._print(line + b"\n")
        self._searched = len(self._line)

    def _answered(self, body: bytes) -> None:
        try:
            answer = json.loads(body)
        except ValueError:
            return self._end(CallFailed("protocol", "its answer cannot be read"))
        if answer["id"] == self._number and not self._done.done():
            self._done.set_result(answer)
        return None

    def _read_err(self) -> None:
        while chunk := self._read(self._err):
            self._print(chunk)
        if chunk == b"" and not self._loop.is_closed():
            self._loop.remove_reader(self._err)

    def _read(self, fd: int) -> bytes | None:
        """As `pipes.read`, and counted."""
        chunk = pipes.read(fd)
        self._taken += len(chunk or b"")
        if self._taken > MOST_OUTPUT:
            size = MOST_OUTPUT >> 20
            self._end(CallFailed("output", f"its result and its output are over {size} MiB"))
        return chunk

    def _print(self, chunk: bytes) -> None:
        self.printed += chunk[: max(0, MOST_PRINTED - len(self.printed))]

    def _end(self, fault: CallFailed) -> None:
        if not self._done.done():
            self._done.set_exception(fault)
