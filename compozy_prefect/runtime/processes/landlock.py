"""Landlock, the sandbox of Linux: a second fence around the files of a process.

The engine checks the path that it is given and follows symbolic links from there; the kernel checks
where they lead. A thread that fences itself in hands that on to the processes it starts, so that
neither this process nor a launcher in between is needed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from functools import cache

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # numbers of the calls, on all architectures
_NO_NEW_PRIVILEGES = 38
_PATH_BENEATH = 1
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL = (1 << 13) - 1  # of the first version
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # of the second and the third
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE

# What large programs read, such as the engine of JavaScript: libraries, names of hosts,
# certificates without the keys that may lie beside them, time zones.
SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/localtime"),
    *("/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/ld.so.cache"),
    *("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs"),
    *("/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted"),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/dev/urandom", "/dev/random", "/sys/fs/cgroup", "/sys/devices/system/cpu"),
)
# What a program needs to begin.
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom")
PROGRAMS = ("/usr", "/bin", "/sbin", "/opt")
"""Where the programs of the system are, and what these read."""
_TCP = 3
_WITH_TCP = 4  # the version that has it
_SIGNALS = 1 << 1
_WITH_SIGNALS = 6


class _Rules(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("ports", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


@cache
def version() -> int:
    """That of the kernel's Landlock; 0 without."""
    if sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"):
        return 0
    return max(0, int(_libc().syscall(_CREATE, None, 0, 1)))


def restrict(program: str, read: Iterable[str], write: Iterable[str]) -> None:
    """Takes from this thread, for good, all files but these, and `program`, which it may start.

    Call it in a thread that does nothing else. Raises OSError.
    """
    rules = [(program, _EXECUTE | _READ), ("/dev/null", _READ | _WRITE)]
    rules += [(path, _EXECUTE | _READ | _LIST) for path in SYSTEM]
    rules += [(path, _READ | _LIST) for path in read]
    for path in write:
        while not os.path.exists(path):  # it is yet to be made, and the engine knows its name
            path = os.path.dirname(path)
        rules.append((path, _handled() & ~(_EXECUTE | _READ | _LIST)))
    _enforce(rules)


def confine(
    run: Iterable[str],
    read: Iterable[str],
    write: Iterable[str],
    listed: Iterable[str],
    *,
    tcp: bool = True,
) -> None:
    """The same for a program and what it starts.

    They start what is in `run`, and nothing that is only in the others; of what is in `listed` they
    see the names. They can signal each other and nobody else. What the kernel does not have is not
    taken away. Raises OSError.
    """
    rules = [(path, _EXECUTE | _READ | _LIST) for path in (*_LIBRARIES, *run)]
    rules += [("/dev/null", _READ | _WRITE)]
    rules += [(path, _LIST) for path in listed]
    rules += [(path, _READ | _LIST) for path in read]
    rules += [(path, _handled() & ~(_EXECUTE | _READ | _LIST)) for path in write]
    _enforce(rules, signals=True, tcp=tcp)


def loosen(*, tcp: bool = True) -> None:
    """The same with all files."""
    _enforce(None, signals=True, tcp=tcp)


def _handled() -> int:
    return _ALL | (_REFER if version() > 1 else 0) | (_TRUNCATE if version() > 2 else 0)


def _enforce(
    files: Iterable[tuple[str, int]] | None, *, signals: bool = False, tcp: bool = True
) -> None:
    rules = _Rules(
        0 if files is None or not version() else _handled(),
        0 if tcp or version() < _WITH_TCP else _TCP,
        _SIGNALS if signals and version() >= _WITH_SIGNALS else 0,
    )
    if not (rules.files or rules.ports or rules.scoped):
        return
    # What a kernel does not know may be there as long as it is 0.
    ruleset = _call(_CREATE, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    try:
        for path, access in files or ():
            _allow(ruleset, path, access)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        if not os.path.isdir(path):
            access &= _ON_FILES
        rule = _Beneath(access, folder)
        _call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(folder)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
