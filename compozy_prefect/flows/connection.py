"""The Prefect server that is configured: its client, its addresses, and what to say without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from compozy_prefect.errors import ServerUnavailable
from compozy_prefect.flows.clients import shared_client


async def client_of(stack: AsyncExitStack, server: str) -> PrefectClient:
    """The client of this event loop, which Prefect's engine finds, too.

    Raises ServerUnavailable when `server`, the URL of the API, cannot be reached.
    """
    try:
        return await stack.enter_async_context(shared_client(server))
    except RuntimeError as fault:
        # Prefect's own sentence, when nothing listens or the server is of another version.
        raise unavailable(server, fault) from None


@asynccontextmanager
async def reached() -> AsyncIterator[PrefectClient]:
    """A client of the server that is configured. Raises ServerUnavailable, also later on."""
    server = api_url()
    try:
        async with AsyncExitStack() as stack:
            yield await client_of(stack, server)
    except (httpx.TransportError, PrefectHTTPStatusError) as fault:
        raise unavailable(server, fault) from None


def ui_url(flow_run: FlowRun) -> str:
    """Where the Prefect UI shows a run."""
    return f"{ui_base()}/runs/flow-run/{flow_run.id}"


def ui_base() -> str:
    """The URL of the Prefect UI: its own, or the API's without `/api`."""
    base = str(get_current_settings().ui_url or "") or api_url().removesuffix("/api")
    return base.rstrip("/")


def api_url() -> str:
    """The URL of the API. Raises ServerUnavailable when none is set."""
    url = get_current_settings().api.url
    if not url:
        raise ServerUnavailable(
            "no Prefect server is configured; run `compozy prefect start`, or set PREFECT_API_URL"
        )
    return url.rstrip("/")


def unavailable(server: str, fault: Exception) -> ServerUnavailable:
    """What `fault` says of the server, as a sentence with a way out."""
    if isinstance(fault, PrefectHTTPStatusError):
        reason = f"answered {fault.response.status_code}: {fault.response.text[:300]}"
    elif isinstance(fault, RuntimeError) and not isinstance(fault.__cause__, httpx.TransportError):
        reason = f"cannot be used: {fault}"
    else:
        reason = f"does not answer ({str(fault.__cause__ or fault) or type(fault).__name__})"
    return ServerUnavailable(
        f"the Prefect server at {server} {reason}; see whether it runs with "
        "`compozy prefect status`, or change PREFECT_API_URL"
    )
