"""`compozy prefect start|stop|status`: the local Prefect server."""

from __future__ import annotations

import json as json_
from typing import Annotated

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.output import note
from compozy_prefect.flows import server as servers
from compozy_prefect.flows.server import Server

Json = Annotated[bool, Parameter(negative="")]


def start(*, port: int | None = None, json: Json = False) -> int:
    """Start the local Prefect server in the background, or find the one that runs.

    Parameters
    ----------
    port
        The port to bind on 127.0.0.1; a free one if not given.
    json
        Print {"running", "api_url", "ui_url", "pid"}.
    """
    _say(servers.start(port=port, notify=note), json)
    return DONE


def stop(*, json: Json = False) -> int:
    """Stop the local Prefect server.

    Parameters
    ----------
    json
        Print {"running", "api_url", "ui_url", "pid"}.
    """
    stopped = servers.stop()
    if json:
        _say(None, json)
    else:
        print("stopped" if stopped else "it was not running")
    return DONE


def status(*, json: Json = False) -> int:
    """Say whether a Prefect server answers, and where; exit with 1 when none does.

    Parameters
    ----------
    json
        Print {"running", "api_url", "ui_url", "pid"}.
    """
    given = servers.configured()
    if given is not None and not servers.healthy(given):
        if json:
            _say(None, json)
        else:
            print(f"the Prefect server at {given.api_url} does not answer")
        return FAILED
    server = given or servers.status()
    _say(server, json)
    return DONE if server is not None else FAILED


def _say(server: Server | None, json: bool) -> None:
    if json:
        answer = {
            "running": server is not None,
            "api_url": server.api_url if server else None,
            "ui_url": server.ui_url if server else None,
            "pid": server.pid if server else None,
        }
        print(json_.dumps(answer, indent=2))
    elif server is None:
        print("stopped")
    else:
        pid = f" (process {server.pid})" if server.pid else ""
        print(f"running{pid}\nAPI: {server.api_url}\nUI:  {server.ui_url}")
