"""A host → its addresses, and of an address, why a call must not be led there (service.md §12.1).

What a template, an input or a redirect names must not lead into a network where services trust
whoever can reach them. Only addresses of the public internet are none of those.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Network = IPv4Network | IPv6Network


def _of(kind: str, *networks: str) -> list[tuple[_Network, str]]:
    return [(ip_network(one), kind) for one in networks]


# The first that fits names it. Not all of it is private to `ipaddress`, and not in every Python.
_KINDS = (
    *_of(
        "of the metadata service of a cloud",
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42"),
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe"),
    ),
    *_of("unspecified", "0.0.0.0/8", "::"),
    *_of("loopback", "127.0.0.0/8", "::1"),
    *_of("link-local", "169.254.0.0/16", "fe80::/10"),
    *_of("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    *_of("shared by customers of a provider (CGNAT)", "100.64.0.0/10"),
    *_of("for documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    *_of("for documentation", "2001:db8::/32", "3fff::/20"),
    *_of("for benchmarks", "198.18.0.0/15", "2001:2::/48"),
    *_of("multicast", "224.0.0.0/4", "ff00::/8"),
    *_of("broadcast", "255.255.255.255"),
    *_of("reserved", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4"),
    *_of("reserved", "64:ff9b:1::/48", "100::/64", "2001::/23", "5f00::/16"),
)
_NAT64 = IPv6Network("64:ff9b::/96")
_ONLY_IPV6 = IPv6Network("2000::/3")  # all that has been given out
_ISATAP = (0x00005EFE, 0x02005EFE)  # the third group of four bytes, before an IPv4 address


class NotPublic(Exception):
    """A host leads to an address that is no public one."""

    def __init__(self, address: str, kind: str) -> None:
        super().__init__(f"{address} is {kind}")
        self.address, self.kind = address, kind


async def addresses(host: str, port: int | None) -> list[str]:
    """Raises OSError when the host is not known."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    return kind_of(address) is None


@lru_cache(maxsize=1024)
def kind_of(address: str) -> str | None:
    """What an address is instead of public, to go after "is"; None for one that is public."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "no address"
    for inner, how in _embedded(found):
        kind = _kind(inner)
        if kind is not None:
            return f"{kind} ({inner}, {how})"
    # The way to these leads over the embedded address alone.
    if isinstance(found, IPv6Address) and (found.ipv4_mapped or found in _NAT64):
        return None
    return _kind(found)


def _kind(address: IPv4Address | IPv6Address) -> str | None:
    for network, kind in _KINDS:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _ONLY_IPV6:
        return "reserved"
    return None if address.is_global else "reserved"


def _embedded(address: IPv4Address | IPv6Address) -> Iterator[tuple[IPv4Address, str]]:
    """The IPv4 addresses that a gateway or the kernel finds in an IPv6 address."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    last = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped, "mapped into IPv6"
    elif address in _NAT64:
        yield last, "by NAT64"
    elif number >> 32 == 0 and number > 1:
        yield last, "compatible with IPv6"
    elif address.sixtofour is not None:
        yield address.sixtofour, "by 6to4"
    elif address.teredo is not None:
        for one in address.teredo:
            yield one, "by Teredo"
    elif number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield last, "by ISATAP"
