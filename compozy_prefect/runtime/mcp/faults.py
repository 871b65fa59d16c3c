"""What can go wrong between an MCP server and us, before anybody says which tool it was about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp.shared.exceptions import MCPError

    from compozy_prefect.runtime.mcp.link import Link

UNREACHED = -32099  # the code of an answer that stands for none; `data` is the kind of the fault


class Failed(Exception):
    """A server that does not do what it should; the text is a part of a sentence.

    `kind` is `start` (there is nothing to start or to reach, and trying again will not help),
    `refused` (it was not reached, or has ended before it was asked), `exit` (it ended while it was
    asked), `timeout`, `output` (more than is taken), `protocol` (what it says is no MCP), `tool`
    (the tool itself reports an error) or `gone` (it does not know the session any more, and has
    done nothing).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


class Changed(Failed):
    """What a server lists is not what `compozy.lock` has. `lines` are the difference.

    `what` are `tools`, `prompts` or `resources`.
    """

    def __init__(self, what: str, lines: tuple[str, ...]) -> None:
        super().__init__("changed", f"its {what} are not those of compozy.lock")
        self.what, self.lines = what, lines


def single(fault: BaseException) -> BaseException:
    """What was raised, out of the groups that tasks put around it."""
    if not isinstance(fault, BaseExceptionGroup):
        return fault
    inner = list(_leaves(fault))
    return next((one for one in inner if isinstance(one, Failed)), inner[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


def explained(fault: BaseException, link: Link, kind: str) -> Failed:
    """`kind` is for a connection that has ended by itself: `exit`, or `refused` at the start."""
    from mcp.shared.exceptions import MCPError
    from pydantic import ValidationError

    if isinstance(fault, Failed):
        return fault
    if isinstance(fault, MCPError):
        return _of_protocol(fault, link, kind)
    if isinstance(fault, ValidationError):
        where = fault.errors()[0]
        at = ".".join(str(part) for part in where["loc"])
        return Failed("protocol", f"its answer is no MCP: at `{at}`: {where['msg']}")
    if link.fault is not None:
        return link.fault
    words = str(fault) or type(fault).__name__
    return Failed("protocol" if isinstance(fault, RuntimeError) else kind, words)


def _of_protocol(fault: MCPError, link: Link, kind: str) -> Failed:
    from mcp_types import (
        CONNECTION_CLOSED,
        INVALID_REQUEST,
        METHOD_NOT_FOUND,
        PARSE_ERROR,
        UNSUPPORTED_PROTOCOL_VERSION,
    )

    code, said = fault.error.code, fault.error.message
    trouble, link.trouble = link.trouble, None
    if code == CONNECTION_CLOSED:
        broke = Failed(kind, "the connection ended before it had answered")
        return link.fault or trouble or broke
    if code == PARSE_ERROR and trouble is not None:
        return trouble
    if code == UNREACHED:
        link.end()
        return Failed(str(fault.error.data), said)
    if code == INVALID_REQUEST and said == "Session terminated":
        link.end()
        return Failed("gone", "it does not know the session any more")
    if kind == "refused" and code == METHOD_NOT_FOUND:
        return Failed("start", f"there is no MCP server at its address, which answers `{said}`")
    if code == UNSUPPORTED_PROTOCOL_VERSION:
        return Failed("start", f"it speaks another version of the protocol: {said}; see `proto`")
    return Failed("protocol" if code == PARSE_ERROR else "tool", said)
