"""Where the benchmarks run: a directory, a standing server, generated projects, timed processes."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HELLO = HERE.parent / "examples" / "hello-world"
TICKET = HERE.parent / "examples" / "support-ticket"
PACKAGE = HERE.parent / "compozy_prefect"
BASELINE = HERE / "prefect_baseline"
COMPOZY = Path(sys.executable).with_name("compozy")


class Ground:
    """A COMPOZY_HOME of its own and the server in it, started at the first need.

    `database` is the URL of the server's database, a new one on SQLite without.
    """

    def __init__(self, directory: Path, database: str = "") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        home = directory / "home"
        self._url = ""
        # Under PYTHONDONTWRITEBYTECODE an edited module would be compiled at every start.
        compileall.compile_dir(str(PACKAGE), quiet=1)
        # Nothing of the user's Prefect: no profile, no API URL.
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")
        }
        self.environment |= {
            "COMPOZY_HOME": str(home),
            "PREFECT_HOME": str(directory / "prefect"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "NO_COLOR": "1",
        }
        if database:
            self.environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database

    @property
    def url(self) -> str:
        """The API of the server."""
        if not self._url:
            self.output([COMPOZY, "prefect", "start"])
            self._url = json.loads(self.output([COMPOZY, "prefect", "status", "--json"]))["api_url"]
        return self._url

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        if self._url:
            self.output([COMPOZY, "prefect", "stop"])

    def output(self, command: list[Any], **environment: str) -> str:
        """What a command prints. Raises RuntimeError with the end of its complaint."""
        done = subprocess.run(
            [str(part) for part in command],
            env={**self.environment, **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines() or [""]
            raise RuntimeError(f"{command[0]} exited {done.returncode}: {last[-1]}")
        return done.stdout

    def numbers(self, code: str, *arguments: object, api: bool = False) -> tuple[float, ...]:
        """The numbers that a program in Python prints; `api`: it needs the server."""
        environment = {"PREFECT_API_URL": self.url} if api else {}
        printed = self.output([sys.executable, "-c", code, *arguments], **environment)
        return tuple(float(number) for number in printed.split())

    def timed(self, command: list[Any], **environment: str) -> tuple[float, str]:
        """The seconds of a whole process, and what it prints."""
        start = time.perf_counter()
        printed = self.output(command, **environment)
        return time.perf_counter() - start, printed

    def compozy(self, project: Path, *arguments: str) -> tuple[float, float]:
        """The seconds of `compozy run` and of its flow run."""
        _ = self.url
        command = [COMPOZY, "run", project, "--offline", "--json", *arguments]
        seconds, printed = self.timed(command)
        return seconds, self.run_time(json.loads(printed)["execution_id"])

    def prefect(self, name: str, *arguments: str, flow: str = "") -> tuple[float, float]:
        """The seconds of a baseline's process and of its flow run; `flow` is the flow's name."""
        script = BASELINE / f"{name}.py"
        command = [sys.executable, script, *arguments]
        seconds, _ = self.timed(command, PREFECT_API_URL=self.url)
        flows = {"name": {"any_": [flow or name]}}
        wanted = {"flows": flows, "limit": 1, "sort": "START_TIME_DESC"}
        return seconds, self.run_time(self.api("/flow_runs/filter", wanted)[0]["id"])

    def run_time(self, flow_run: str) -> float:
        """The seconds that a flow run was Running."""
        return float(self.api(f"/flow_runs/{flow_run}")["total_run_time"])

    def api(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def project(self, name: str, tasks: list[dict[str, Any]], **more: Any) -> Path:
        """A project of one file, with `more` of its fields. JSON is YAML."""
        path = self.directory / name
        path.mkdir()
        content = {"name": name, "version": "1.0.0", "tasks": tasks, **more}
        (path / "compozy.yaml").write_text(json.dumps(content, indent=1))
        return path
