"""A server over stdio: its process, and the messages that go in and come out.

The SDK's own transport hands the environment of this process on, and keeps what comes without an
end of line in memory as long as it comes. Here the environment is what the files declare, lines
have a bound, and the process group ends with this process.
"""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import Failed
from compozy_prefect.runtime.mcp.guard import GUARD, kill
from compozy_prefect.runtime.mcp.link import LARGEST, Link

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MOST_NOISE = 1 << 20  # bytes of lines that are no messages: banners, prints that went astray
_GRACE = 1.0  # seconds that a process gets to end when its stdin closes, and after SIGTERM
_LOOK = 0.005


@asynccontextmanager
async def stdio(connection: Connection, link: Link) -> AsyncIterator[TransportStreams]:
    """Starts the process, and ends it with its group. Raises Failed when there is none to start."""
    from mcp.shared.message import SessionMessage

    process = await _start(connection)
    into, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, out_of = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, process, into, link)
            tasks.start_soon(_hear, process, link)
            tasks.start_soon(_write, process, out_of)
            try:
                yield read, write
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await _end(process)
            finally:
                GUARD.end(process.pid)
                _let_go(process)
                for stream in (into, read, write, out_of):
                    stream.close()


async def _start(connection: Connection) -> Process:
    program = connection.command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *connection.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=connection.root,
            env=dict(connection.variables),
            limit=LARGEST,
            start_new_session=True,
        )
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or str(fault)
        raise Failed("start", f"`{program}` does not start: {why.lower()}") from None
    try:
        GUARD.add(process.pid)
    except OSError as fault:
        kill(process.pid)
        raise Failed("start", f"its process cannot be guarded: {fault.strerror}") from None
    return process


async def _read(process: Process, into: Any, link: Link) -> None:
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter

    assert process.stdout is not None
    noise = unasked = 0
    try:
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
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


async def _hear(process: Process, link: Link) -> None:
    assert process.stderr is not None
    while chunk := await process.stderr.read(1 << 16):
        link.hear(chunk)


async def _write(process: Process, out_of: Any) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it has ended, which is noticed where it speaks
        async for message in out_of:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _ended(process: Process) -> Failed:
    """Why a process has closed its output, as far as that is known soon."""
    await _wait(process, 0.5)
    code = process.returncode
    if code is None:
        return Failed("exit", "it closed its stdout")
    how = f"with signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return Failed("exit", f"it ended its process, {how}")


async def _end(process: Process) -> None:
    """As the protocol has it: stdin closes, SIGTERM, SIGKILL; and what else is in the group."""
    assert process.stdin is not None
    process.stdin.close()
    if not await _wait(process, _GRACE):
        kill(process.pid, signal.SIGTERM)
        await _wait(process, _GRACE)
    kill(process.pid)
    await _wait(process, _GRACE)


def _let_go(process: Process) -> None:
    """What has left the group may hold the pipes, and asyncio would wait for them."""
    transport = getattr(process, "_transport", None)
    if transport is not None:
        with suppress(OSError):
            transport.close()


async def _wait(process: Process, seconds: float) -> bool:
    """By looking: to wait for the process is to wait for its pipes, too."""
    end = time.monotonic() + seconds
    while process.returncode is None:
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_LOOK)
    return True
