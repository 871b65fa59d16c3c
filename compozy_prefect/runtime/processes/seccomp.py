"""Seccomp, the filter of Linux for system calls: what Landlock leaves to a fenced program.

Landlock knows of files that are opened and made, and of connections by TCP. Other sockets, those
in the file system too, and the modes, owners and times of files are taken away here, also from who
is not root, and from all that the program starts. With them goes what root may beyond its files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

_NO_NEW_PRIVILEGES, _SET_FILTER, _DROP_CAPABILITY = 38, 22, 24
_KEPT = (1, 2)  # capabilities by which root reads and writes the files of others
_FILTER = 2
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of BPF
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # where the kernel puts them
_X32 = 0x40000000  # from here on the numbers of another set of the same calls
_INTERNET = (2, 10, 16)  # IPv4, IPv6, and netlink, by which addresses of the machine are asked for
_IO_URING = 425  # opens sockets past any filter
_NEW_ATTRIBUTES = (452, 463, 466, 469)  # fchmodat2, setxattrat, removexattrat, file_setattr


class _Machine(NamedTuple):
    """The numbers of the calls that differ; `attributes` change what is known of a file."""

    architecture: int
    socket: int
    fchmod: int
    attributes: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        41,
        91,
        (90, *range(92, 95), 132, *range(188, 191), *range(197, 200), 235, 260, 261, 268, 280),
    ),
    "aarch64": _Machine(0xC00000B7, 198, 52, (5, 6, 7, 14, 15, 16, 53, 54, 55, 88)),
}


def narrow(*, internet: bool) -> None:
    """Takes from this thread, for good, all sockets but those of the internet, and these too unless
    `internet`; and that it changes the attributes of files. What it becomes has no capability of
    root but to read and write files. Raises OSError where it cannot.
    """
    machine = _MACHINES.get(os.uname().machine) if sys.platform == "linux" else None
    if machine is None:
        raise OSError(errno.ENOSYS, "the system has no filter for system calls")
    body = b"".join(_program(machine, _INTERNET if internet else ()))
    code = ctypes.create_string_buffer(body, len(body))
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        if capability not in _KEPT:  # who is not root has none to lose, and is told so
            libc.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)
    filter_ = struct.pack("HxxxxxxP", len(body) // 8, ctypes.addressof(code))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SET_FILTER, _FILTER, filter_):
        why = os.strerror(ctypes.get_errno())
        raise OSError(ctypes.get_errno(), f"the kernel takes no filter for system calls: {why}")


def _program(machine: _Machine, families: Iterable[int]) -> list[bytes]:
    sockets = [
        _op(_LOAD, _FIRST_ARGUMENT),
        *(one for family in families for one in _if(family, _ALLOW)),
        _op(_RETURN, _FAIL | errno.EACCES),
    ]
    return [
        _op(_LOAD, _ARCHITECTURE),
        _op(_IF_EQUAL, machine.architecture, 1, 0),
        _op(_RETURN, _FAIL | errno.ENOSYS),
        _op(_LOAD, _NUMBER),
        _op(_IF_AT_LEAST, _X32, 0, 1),
        _op(_RETURN, _FAIL | errno.ENOSYS),
        *_if(_IO_URING, _FAIL | errno.ENOSYS),
        # Said to have succeeded: without it no file is copied.
        *_if(machine.fchmod, _FAIL),
        *(
            one
            for number in (*machine.attributes, *_NEW_ATTRIBUTES)
            for one in _if(number, _FAIL | errno.EPERM)
        ),
        _op(_IF_EQUAL, machine.socket, 0, len(sockets)),
        *sockets,
        _op(_RETURN, _ALLOW),
    ]


def _if(value: int, result: int) -> tuple[bytes, bytes]:
    return _op(_IF_EQUAL, value, 0, 1), _op(_RETURN, result)


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)
