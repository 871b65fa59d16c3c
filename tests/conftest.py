from __future__ import annotations

from tests.support.prefect_server import prefect_server

__all__ = ["prefect_server"]
