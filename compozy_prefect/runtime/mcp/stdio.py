"""A server over stdio: its process, and the messages that go in and come out.

The SDK's own transport hands the environment of this process on, and keeps what comes without an
end of line in memory as long as it comes. Here the environment is what the files declare, lines
have a bound, and a guard ends the process with all that it has started.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
import weakref
from asyncio import StreamReader
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import anyio

from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import Failed
from compozy_prefect.runtime.mcp.link import LARGEST, Link
from compozy_prefect.runtime.processes import command, pipes
from compozy_prefect.runtime.processes.guarded import ENDED_BY, Guarded, NotStarted, Program

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MOST_NOISE = 1 << 20  # bytes of lines that are no messages: banners, prints that went astray
_GRACE = 1.0  # seconds that a process gets to end when its stdin closes, and after SIGTERM
_LOOK = 0.005

# A child that is forked holds the pipes by which a guard sees the end of this process.
_STARTED: weakref.WeakSet[Guarded] = weakref.WeakSet()


@asynccontextmanager
async def stdio(connection: Connection, link: Link) -> AsyncIterator[TransportStreams]:
    """Starts the process, and ends it with all of its own. Raises Failed if it does not start."""
    from mcp.shared.message import SessionMessage

    process = await _start(connection)
    stdin, stdout, stderr = process.streams
    into, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, out_of = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with (
            _reading(stdout) as messages,
            _reading(stderr) as words,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_read, process, messages, into, link)
            tasks.start_soon(_hear, words, link)
            tasks.start_soon(_write, stdin, out_of)
            try:
                yield read, write
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await _end(process)
            finally:
                for stream in (into, read, write, out_of):
                    stream.close()


async def _start(connection: Connection) -> Guarded:
    name, variables = connection.command[0], dict(connection.variables)
    path = name if os.sep in name else shutil.which(name, path=variables.get("PATH"))
    try:
        if path is None:
            raise NotStarted("no such file or directory")
        argv = (name, *connection.command[1:])
        process = await command.started(Program(argv, str(connection.root), variables, path=path))
    except (NotStarted, ValueError) as fault:
        why = str(fault)
        raise Failed("start", f"`{name}` does not start: {why[:1].lower()}{why[1:]}") from None
    _STARTED.add(process)
    return process


@asynccontextmanager
async def _reading(stream: IO[bytes]) -> AsyncIterator[StreamReader]:
    reader = StreamReader(limit=LARGEST)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), stream
    )
    try:
        yield reader
    finally:
        transport.close()


async def _read(process: Guarded, messages: StreamReader, into: Any, link: Link) -> None:
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter

    noise = unasked = 0
    try:
        while True:
            try:
                line = await messages.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return link.end(await _ended(process))
            except asyncio.LimitOverrunError:
                size = f"{LARGEST >> 20} MiB"
                return link.end(Failed("output", f"it wrote a message of more than {size}"))
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                noise += len(line)
                if noise > MOST_NOISE:
                    said = line[:80].decode("utf-8", "replace").strip()
                    what = f"it writes to stdout what is no message, such as `{said}`"
                    return link.end(Failed("protocol", what))
                continue
            answers = isinstance(message, JSONRPCResponse | JSONRPCError)
            unasked = 0 if answers else unasked + len(line)
            if unasked > LARGEST:
                what = f"it sent {LARGEST >> 20} MiB of notifications between two answers"
                return link.end(Failed("output", what))
            await into.send(SessionMessage(message))
    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass  # the session is over
    finally:
        await into.aclose()


async def _hear(words: StreamReader, link: Link) -> None:
    while chunk := await words.read(1 << 16):
        link.hear(chunk)


async def _write(stdin: IO[bytes], out_of: Any) -> None:
    fd, loop = stdin.fileno(), asyncio.get_running_loop()
    os.set_blocking(fd, False)
    async for message in out_of:
        text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
        rest = pipes.write(fd, memoryview(text.encode() + b"\n"))
        while rest:  # an end of the process is noticed where it speaks
            ready = loop.create_future()
            loop.add_writer(fd, ready.set_result, None)
            try:
                await ready
            finally:
                loop.remove_writer(fd)
            rest = pipes.write(fd, rest)


async def _ended(process: Guarded) -> Failed:
    """Why a process has closed its output, as far as that is known soon."""
    await _wait(process, 0.5)
    code = process.returncode
    if process.reason:
        return Failed("exit", ENDED_BY[process.reason])
    if code is None:
        return Failed("exit", "it closed its stdout")
    how = f"with signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return Failed("exit", f"it ended its process, {how}")


async def _end(process: Guarded) -> None:
    """As the protocol has it: stdin closes, SIGTERM, SIGKILL; and all that it has started."""
    try:
        with suppress(OSError):
            process.streams[0].close()
        if not await _wait(process, _GRACE):
            with suppress(OSError):
                os.kill(process.pid, signal.SIGTERM)
            await _wait(process, _GRACE)
    finally:
        process.kill()  # also when the event loop ends meanwhile
    await asyncio.to_thread(process.close)


async def _wait(process: Guarded, seconds: float) -> bool:
    """By looking: to wait for the process is to wait for its pipes, too."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_LOOK)
    return True


def _leave_to_the_parent() -> None:
    for process in _STARTED:
        process.forget()
    _STARTED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
