"""A program, run to its end with bounds on time and output."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from compozy_prefect.runtime.processes import pipes
from compozy_prefect.runtime.processes.guarded import Guarded, Program, start


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program left. `code` is negative for a signal, and without meaning with a `reason`.

    `stdout` is the beginning of what it wrote there, `stderr` the end of that; `cut`: there was
    more on stderr.
    """

    code: int
    stdout: bytes
    stderr: bytes
    reason: str
    cut: bool
    seconds: float


async def run(
    program: Program, stdin: bytes, *, seconds: float | None, most_out: int, most_err: int
) -> Ended:
    """Runs it. More than `most_out` bytes on stdout end it; `most_err` are kept of the others.

    Nothing of it is left when this returns, also when it is cancelled. Raises NotStarted.
    """
    began = time.monotonic()
    process = await started(program)
    talk = _Talk(process, stdin, most_out, most_err)
    reason = ""
    try:
        async with asyncio.timeout(seconds):
            await talk.end()
    except TimeoutError:
        reason = "timeout"
    except BaseException:
        talk.close()
        process.kill()
        _finish(process)
        raise
    talk.close()
    if talk.is_too_much:
        reason = "output"
    # It goes on to kill what the program left, and is quick.
    await asyncio.shield(asyncio.to_thread(_close if reason else _wait, process))
    return Ended(
        process.returncode or 0,
        bytes(talk.stdout),
        bytes(talk.stderr),
        reason or process.reason,
        talk.cut,
        time.monotonic() - began,
    )


async def started(program: Program) -> Guarded:
    """Starts it beside the event loop. Raises NotStarted."""
    starting = asyncio.ensure_future(asyncio.to_thread(start, program))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_unwanted)  # it starts all the same
        raise


def _unwanted(starting: asyncio.Future[Guarded]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().kill()
        _finish(starting.result())


def _finish(process: Guarded) -> None:
    threading.Thread(target=process.close, name="tools-end", daemon=True).start()


def _close(process: Guarded) -> None:
    process.close()


def _wait(process: Guarded) -> None:
    process.wait(10.0)
    process.forget()


class _Talk:
    """The pipes of a program, in the event loop that runs."""

    def __init__(self, process: Guarded, stdin: bytes, most_out: int, most_err: int) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.is_too_much = self.cut = False
        self._most_out, self._most_err = most_out, most_err
        self._in, self._out, self._err = (stream.fileno() for stream in process.streams)
        self._rest = memoryview(stdin)
        self._stdin = process.streams[0]
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._open = {self._out, self._err, process.hears}
        self._hears = process.hears

    async def end(self) -> None:
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        self._loop.add_reader(self._out, self._read_out)
        self._loop.add_reader(self._err, self._read_err)
        self._loop.add_reader(self._hears, self._closed, self._hears)
        self._write()
        await self._over

    def close(self) -> None:
        for fd in self._open:
            self._loop.remove_reader(fd)
        self._end_of_input()
        self._over.cancel()

    def _write(self) -> None:
        self._rest = pipes.write(self._in, self._rest)
        if self._rest:
            self._loop.add_writer(self._in, self._write)
        else:
            self._end_of_input()

    def _end_of_input(self) -> None:
        if not self._stdin.closed:
            self._loop.remove_writer(self._in)
            self._stdin.close()

    def _read_out(self) -> None:
        chunk = pipes.read(self._out)
        if chunk is None:
            return
        room = self._most_out - len(self.stdout)
        self.stdout += chunk[:room]
        if len(chunk) > room:
            self.is_too_much = True
            self._done()
        elif not chunk:
            self._closed(self._out)

    def _read_err(self) -> None:
        chunk = pipes.read(self._err)
        if chunk is None:
            return
        self.stderr += chunk
        if len(self.stderr) > self._most_err:
            self.cut = True
            del self.stderr[: len(self.stderr) - self._most_err]
        if not chunk:
            self._closed(self._err)

    def _closed(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self._open.discard(fd)
        if not self._open:
            self._done()

    def _done(self) -> None:
        with suppress(asyncio.InvalidStateError):
            self._over.set_result(None)
