from __future__ import annotations

from tests.support.compozy import compozy
from tests.support.model_server import model_server
from tests.support.prefect_server import prefect_server

__all__ = ["compozy", "model_server", "prefect_server"]
