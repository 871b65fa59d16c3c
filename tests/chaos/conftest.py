"""What is lost with a process is seen to minutes after its end (`tests.support.chaos.MENDED`)."""

from __future__ import annotations

from pathlib import Path

import pytest

SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(SECONDS))
