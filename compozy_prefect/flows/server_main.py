"""The local Prefect server's own process: a socket that its parent bound comes in, Prefect's API,
UI and every background service run on it until SIGTERM.

`compozy_prefect.flows.server` runs this file by its path; nothing imports it. The parent binds the
port, so no other program can take it between the choice and the start. `--port` and `--home` are
here for `ps` and for `server_state`, which knows a server by them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

# Open websockets (a browser on the UI, a waiting run) would otherwise hold up a stop for ever.
DRAIN_SECONDS = 3
STARTUP_FAILED = 3  # the exit status uvicorn's own command uses


def main() -> int:
    """Serves until told to stop; returns the exit status."""
    arguments = argparse.ArgumentParser(prog="compozy prefect server")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--fd", type=int, required=True)
    arguments.add_argument("--home", required=True)
    given = arguments.parse_args()

    os.umask(0o077)  # the database holds the inputs and outputs of runs
    listener = socket.socket(fileno=given.fd)

    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    from compozy_prefect.flows.mend import mend_for_ever

    _write_in_turn()
    settings = get_current_settings().server
    config = uvicorn.Config(
        create_app(final=True),
        lifespan="on",
        log_level=settings.logging_level.lower(),
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )

    class Server(uvicorn.Server):
        async def serve(self, sockets: list[socket.socket] | None = None) -> None:
            # What the server before lost when it was killed.
            mending = asyncio.ensure_future(mend_for_ever(f"http://127.0.0.1:{given.port}/api"))
            try:
                await super().serve(sockets)
            finally:
                mending.cancel()

    server = Server(config)
    server.run(sockets=[listener])
    return 0 if server.started else STARTUP_FAILED


def _write_in_turn() -> None:
    """Has transactions on SQLite that will write take the lock for that when they begin.

    Prefect does so for some. One that first reads, and finds at its first write that another one
    has written meanwhile, is refused at once, whatever the time to wait: the client gets a 503 and
    asks again two seconds later.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_writing(
        self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
    ) -> AbstractAsyncContextManager[AsyncSessionTransaction]:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_writing  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    sys.exit(main())
