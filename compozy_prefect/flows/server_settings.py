"""Which Prefect API the user has set, read the way Prefect reads it but without importing it.

The environment and the files of Prefect's settings come in; a URL, or None, goes out. Prefect's
order (`prefect.settings.base`), first that names the setting wins: environment, `.env`,
`prefect.toml`, `pyproject.toml` (these three in the current folder), active profile. Importing
Prefect to ask it takes one to two seconds; a test holds the two answers equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compozy_prefect.errors import ServerUnavailable
from compozy_prefect.flows.server_state import user_home

CLOUD_API = "https://api.prefect.cloud/api"
CLOUD_UI = "https://app.prefect.cloud"

_TEST_MODE = (
    "PREFECT_TEST_MODE",
    "PREFECT_UNIT_TEST_MODE",
    "PREFECT_TESTING_UNIT_TEST_MODE",
    "PREFECT_TESTING_TEST_MODE",
)


def api_url(environ: Mapping[str, str], *, ignore: str | None = None) -> str | None:
    """The API URL the user has set, or None; an empty one counts as none, as it does for Prefect.

    `ignore` is a URL in the environment that is not the user's: the one of our own server.
    """
    variables = {name.upper(): value for name, value in environ.items()}
    if (url := variables.get("PREFECT_API_URL")) is not None and url != ignore:
        return url or None
    if (url := _dotenv("PREFECT_API_URL")) is not None:
        return url or None
    for table in _project_tables():
        if (url := _text(_table(table, "api").get("url"))) is not None:
            return url or None
    return _text(_active_profile(environ).get("PREFECT_API_URL")) or None


def ui_url(api: str, environ: Mapping[str, str]) -> str:
    """The UI that belongs to an API URL: what the user set, else Prefect's own inference."""
    if url := environ.get("PREFECT_UI_URL"):
        return url
    if api.startswith(CLOUD_API):
        api = CLOUD_UI + api.removeprefix(CLOUD_API)
    ui = api.rstrip("/").removesuffix("/api").replace("/api/", "/")
    return ui.replace("/accounts/", "/account/").replace("/workspaces/", "/workspace/")


def profiles_path(environ: Mapping[str, str]) -> Path:
    """The profiles file Prefect would read; it need not exist."""
    for path in (environ.get("PREFECT_PROFILES_PATH"), _dotenv("PREFECT_PROFILES_PATH")):
        if path:
            return Path(path)
    for table in _project_tables():
        if path := _text(table.get("profiles_path")):
            return Path(path)
    home = environ.get("PREFECT_HOME")
    return (Path(home) if home else user_home(environ) / ".prefect") / "profiles.toml"


def _active_profile(environ: Mapping[str, str]) -> Mapping[str, Any]:
    if any(environ.get(name) for name in _TEST_MODE):
        return {}
    data = _toml(profiles_path(environ))
    active = environ.get("PREFECT_PROFILE") or data.get("active")
    return _table(_table(data, "profiles"), str(active))


def _project_tables() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Prefect's settings in the current folder's `prefect.toml` and `pyproject.toml`."""
    pyproject = _toml(Path("pyproject.toml"))
    return _toml(Path("prefect.toml")), _table(_table(pyproject, "tool"), "prefect")


def _toml(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        # Going on would start a second server beside the one that this file may name.
        raise ServerUnavailable(
            f"Cannot read Prefect's settings in {path.absolute()}: {error}."
        ) from error


def _dotenv(name: str) -> str | None:
    """One variable of the current folder's `.env`, without its quotes or trailing comment."""
    try:
        text = Path(".env").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    pattern = rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*=[ \t]*(?:'([^'\n]*)'|\"([^\"\n]*)\"|([^\n]*))"
    found = None
    for match in re.finditer(pattern, text, re.IGNORECASE | re.MULTILINE):
        single, double, bare = match.groups()
        quoted = single if single is not None else double
        found = quoted if quoted is not None else re.split(r"\s+#", bare)[0].strip()
    return found


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
