"""The fixtures that several folders share.

Here and in no other conftest: a fixture that is imported twice is two fixtures, and the server of
the session then is two servers, the later of which takes the environment of the process.
"""

from __future__ import annotations

from tests.support.chaos import chaos
from tests.support.cluster import dask_cluster
from tests.support.compozy import compozy
from tests.support.effects import effects
from tests.support.javascript import no_engine_left
from tests.support.mcp_servers.started import mcp_held, mcp_over_http, no_mcp_server_left
from tests.support.model_server import model_server
from tests.support.prefect_server import postgres, postgres_server, prefect_server
from tests.support.processes import sessions_folder
from tests.support.started import start

__all__ = [
    "chaos",
    "compozy",
    "dask_cluster",
    "effects",
    "mcp_held",
    "mcp_over_http",
    "model_server",
    "no_engine_left",
    "no_mcp_server_left",
    "postgres",
    "postgres_server",
    "prefect_server",
    "sessions_folder",
    "start",
]
