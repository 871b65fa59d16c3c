"""The user's API URL, found without importing Prefect, where Prefect itself finds it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.errors import ServerUnavailable
from compozy_prefect.flows import server, server_settings


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.upper().startswith(("PREFECT", "COMPOZY")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)


PROFILES = """
active = "work"
[profiles.work]
PREFECT_API_URL = "http://work/api"
[profiles.other]
PREFECT_API_URL = "http://other/api"
[profiles.plain]
PREFECT_LOGGING_LEVEL = "DEBUG"
"""

# name: (environment, files below the folder, expected); {} in the environment is that folder
SETTINGS: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "nothing": ({}, {}, None),
    "environment": ({"PREFECT_API_URL": "http://env/api"}, {}, "http://env/api"),
    "lower case": ({"prefect_api_url": "http://env/api"}, {}, "http://env/api"),
    "empty hides the rest": (
        {"PREFECT_API_URL": "", "PREFECT_HOME": "{}"},
        {"profiles.toml": PROFILES},
        None,
    ),
    "active profile": ({"PREFECT_HOME": "{}"}, {"profiles.toml": PROFILES}, "http://work/api"),
    "default home": ({}, {"../user/.prefect/profiles.toml": PROFILES}, "http://work/api"),
    "profile by name": (
        {"PREFECT_HOME": "{}", "PREFECT_PROFILE": "other"},
        {"profiles.toml": PROFILES},
        "http://other/api",
    ),
    "profile without a URL": (
        {"PREFECT_HOME": "{}", "PREFECT_PROFILE": "plain"},
        {"profiles.toml": PROFILES},
        None,
    ),
    "unknown profile": (
        {"PREFECT_HOME": "{}", "PREFECT_PROFILE": "gone"},
        {"profiles.toml": PROFILES},
        None,
    ),
    "path of the profiles": (
        {"PREFECT_PROFILES_PATH": "{}/mine.toml"},
        {"mine.toml": PROFILES},
        "http://work/api",
    ),
    "test mode": (
        {"PREFECT_HOME": "{}", "PREFECT_TEST_MODE": "1"},
        {"profiles.toml": PROFILES},
        None,
    ),
    ".env": ({}, {".env": "A=1\nexport PREFECT_API_URL='http://dot/api' # x\n"}, "http://dot/api"),
    ".env, bare": ({}, {".env": "PREFECT_API_URL=http://dot/api # x\n"}, "http://dot/api"),
    "prefect.toml": (
        {},
        {"prefect.toml": '[api]\nurl = "http://toml/api"'},
        "http://toml/api",
    ),
    "pyproject.toml": (
        {},
        {"pyproject.toml": '[tool.prefect.api]\nurl = "http://py/api"'},
        "http://py/api",
    ),
    "order of files": (
        {"PREFECT_HOME": "{}"},
        {
            "prefect.toml": '[api]\nurl = "http://toml/api"',
            "pyproject.toml": '[tool.prefect.api]\nurl = "http://py/api"',
            "profiles.toml": PROFILES,
        },
        "http://toml/api",
    ),
}

ASK_PREFECT = """
import json, os, sys
from prefect.settings import Settings
answers = {}
for name, (environment, folder) in json.load(sys.stdin).items():
    os.chdir(folder)
    os.environ.update(environment)
    answers[name] = Settings().api.url or None
    for key in environment:
        del os.environ[key]
# The names of the settings our own server gets are checked in the same process: importing is slow.
from compozy_prefect.flows.server_launch import _SETTINGS
os.environ.update(_SETTINGS)
ours = Settings().server
batches = [
    [service.batch_size, service.read_batch_size, service.flush_interval]
    for service in (ours.services.task_run_recorder, ours.services.event_persister)
]
print(json.dumps([answers, batches, ours.analytics_enabled]))
"""


def test_the_users_api_url_is_found_where_prefect_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    plain = dict(os.environ)
    for number, (name, (environment, files, _)) in enumerate(SETTINGS.items()):
        folder = tmp_path / f"case{number}"
        filled = {key: value.format(folder) for key, value in environment.items()}
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        assert server_settings.api_url({**plain, **filled}) == SETTINGS[name][2], name
        if name == "default home":  # one HOME serves every case
            shutil.rmtree(tmp_path / "user")
        else:
            asked[name] = (filled, str(folder))
    out = subprocess.run(
        [sys.executable, "-c", ASK_PREFECT],
        input=json.dumps(asked),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    answers, batches, analytics = json.loads(out.stdout)
    assert batches == [[200, 200, 1], [200, 200, 1]]
    assert analytics is False
    assert answers == {name: SETTINGS[name][2] for name in asked}


def test_a_settings_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("prefect.toml").write_text("api = [")
    with pytest.raises(ServerUnavailable, match=r"settings in /.*/prefect\.toml"):
        server.configured()


@pytest.mark.parametrize(
    ("api", "ui"),
    [
        ("http://127.0.0.1:4200/api", "http://127.0.0.1:4200"),
        ("https://host/prefect/api/", "https://host/prefect"),
        (
            "https://api.prefect.cloud/api/accounts/a/workspaces/w",
            "https://app.prefect.cloud/account/a/workspace/w",
        ),
    ],
)
def test_the_ui_of_an_api_url(api: str, ui: str) -> None:
    assert server_settings.ui_url(api, {}) == ui
    assert server_settings.ui_url(api, {"PREFECT_UI_URL": "http://ui"}) == "http://ui"
