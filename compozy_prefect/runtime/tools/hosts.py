"""A host → its addresses, and whether they are in the public network.

What a template, an input or a redirect names must not lead into a private network, where services
trust whoever can reach them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket


async def addresses(host: str | None, port: int | None) -> list[str]:
    """Raises OSError when the host is not known."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast
