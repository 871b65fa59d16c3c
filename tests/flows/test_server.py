"""The standing local server: found, shared, recovered, stopped.

What Prefect itself has to do is tested on one real server; what is ours (who starts, who waits,
what is stale) on a stand-in that answers the health check and starts in a tenth of a second.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from compozy_prefect.errors import ServerUnavailable, UsageError
from compozy_prefect.flows import server, server_launch, server_state
from compozy_prefect.flows.server import Server
from compozy_prefect.flows.server_state import Home

T = TypeVar("T")

STAND_IN = """
import argparse, os, signal, socket, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

given = argparse.ArgumentParser()
for name, kind in (("--port", int), ("--fd", int), ("--home", str)):
    given.add_argument(name, type=kind)
given = given.parse_args()
act = os.environ.get("PREFECT_STAND_IN", "")
if act == "die":
    print("Traceback (most recent call last):\\n  File x", file=sys.stderr)
    print("sqlalchemy.exc.Error: no such table: flow", file=sys.stderr)
    sys.exit(3)
if act == "hush":
    time.sleep(600)
if act == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/api/health": b"true", "/api/admin/version": b'"9.9.9"'}.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

listening = HTTPServer(("127.0.0.1", given.port), Handler, bind_and_activate=False)
listening.socket = socket.socket(fileno=given.fd)
listening.serve_forever()
"""

STARTER = """
import sys
from pathlib import Path
from compozy_prefect.flows import server, server_launch
if len(sys.argv) > 1:
    server_launch.MAIN = Path(sys.argv[1])
print(server.ensure(notify=lambda line: print(line, file=sys.stderr)).pid)
"""


def wait_for(what: Callable[[], T], seconds: float = 20) -> T:
    """The first truthy answer of `what`."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return answer


def kill_all(home: Home) -> None:
    home.state.unlink(missing_ok=True)  # so that every process is looked at
    for process in server_state.running(home):
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda p=process: not server_state.alive(p, home))  # type: ignore[misc]


def bare_environment(base: Path) -> dict[str, str]:
    """An environment without Prefect's variables; HOME cannot be written (it is a file)."""
    user = base / "user"
    user.touch()
    keep = {k: v for k, v in os.environ.items() if not k.upper().startswith(("PREFECT", "COMPOZY"))}
    return {**keep, "HOME": str(user), "COMPOZY_HOME": str(base / "a home, ünïcode")}


def start_apart(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(starter: subprocess.Popen[str]) -> int:
    out, err = starter.communicate(timeout=150)
    assert starter.returncode == 0, err
    return int(out)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs the tests, nor starts anything in their home."""
    for name in list(os.environ):
        if name.upper().startswith(("PREFECT", "COMPOZY")):
            monkeypatch.delenv(name)
    for name, value in bare_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose servers are stand-ins; none is left when the test ends."""
    script = tmp_path / "server_main.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(server_launch, "MAIN", script)
    monkeypatch.setattr(server_launch, "PROBE_SECONDS", 1.0)
    found = server_state.server_home(os.environ)
    try:
        yield found
    finally:
        kill_all(found)


# -- whose server --


def test_importing_the_module_imports_neither_prefect_nor_an_http_client() -> None:
    code = "import sys; import compozy_prefect.flows.server; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"prefect", "httpx", "pydantic", "anyio", "http.client", "urllib.request"}
    assert not heavy & set(out.stdout.split())


def test_an_api_url_in_the_environment_is_used_and_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    expected = Server(
        "http://prefect.example:4200/api", "http://prefect.example:4200", pid=None, managed=False
    )
    assert server.configured() == expected
    assert server.ensure() == expected
    assert not (tmp_path / "a home, ünïcode").exists()


def test_without_any_setting_there_is_no_server_of_the_user() -> None:
    assert server.configured() is None
    assert server.status() is None


def test_health_of_the_users_server_is_any_answer(home: Home) -> None:
    ours = server.ensure()
    theirs = Server(ours.ui_url, ours.ui_url, pid=None, managed=False)  # /health: 404, yet there
    assert server.healthy(ours)
    assert server.healthy(theirs)
    server.stop()
    assert not server.healthy(ours)
    assert not server.healthy(theirs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", "user/.compozy"), ("rel/ative", "work/rel/ative"), ("~/x", "user/x"), ("link", "real")],
)
def test_the_home_is_absolute_and_has_one_name(tmp_path: Path, given: str, expected: str) -> None:
    (tmp_path / "real").mkdir()
    Path("link").symlink_to(tmp_path / "real")
    found = server_state.server_home({"HOME": str(tmp_path / "user"), "COMPOZY_HOME": given})
    assert found.path == tmp_path / expected / "prefect"


def test_an_empty_home_falls_back_to_the_password_file() -> None:
    import pwd

    found = server_state.server_home({"HOME": ""})
    assert found.path == Path(pwd.getpwuid(os.getuid()).pw_dir).resolve() / ".compozy" / "prefect"


# -- starting, sharing, recovering (stand-ins) --


def test_a_server_is_started_once_and_reused(home: Home) -> None:
    told: list[str] = []
    first = server.ensure(notify=told.append)
    assert told == [
        "starting a local Prefect server (first use)…",
        f"the local Prefect server is at {first.ui_url}",
    ]
    assert first.managed
    assert server.status() == first == server.ensure(notify=told.append)
    assert len(told) == 2
    state = json.loads(home.state.read_text())
    assert (state["pid"], state["ready"], state["version"]) == (first.pid, True, "9.9.9")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o600


def test_a_server_outlives_its_starter_in_a_session_of_its_own(home: Home, tmp_path: Path) -> None:
    starter = start_apart(dict(os.environ), str(home.path.parents[1] / "server_main.py"))
    pid = finish(starter)
    running = server.status()
    assert running is not None
    assert running.pid == pid == os.getsid(pid)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/cwd") == str(home.path)


def test_many_first_starts_at_once_make_one_server(home: Home) -> None:
    starters = [
        start_apart(dict(os.environ), str(home.path.parents[1] / "server_main.py"))
        for _ in range(5)
    ]
    pids = {finish(starter) for starter in starters}
    home.state.unlink()  # so that every process is looked at
    assert pids == {process.pid for process in server_state.running(home)}
    assert len(pids) == 1


def test_threads_of_one_program_share_a_server(home: Home) -> None:
    pids: list[int | None] = []
    threads = [threading.Thread(target=lambda: pids.append(server.ensure().pid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(pids) == 4
    assert len(set(pids)) == 1


def test_a_killed_server_is_replaced_on_the_same_port(home: Home) -> None:
    first = server.ensure()
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    second = server.ensure()
    assert second.pid != first.pid
    assert second.api_url == first.api_url


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\0" * 100])
def test_a_lost_state_file_does_not_lose_the_server(home: Home, text: str) -> None:
    first = server.ensure()
    home.state.write_text(text)
    assert server.status() == first
    assert home.state.read_text() == text, "status changes nothing"
    home.state.unlink()
    assert server.ensure() == first


def stale(home: Home, **changes: Any) -> None:
    """Writes the state of a server that is not there."""
    home.path.mkdir(parents=True)
    state = {
        "pid": 4_000_000,
        "started": "1",
        "boot_id": server_state.boot_id(),
        "port": 0,
        "api_url": "http://127.0.0.1:0/api",
        "version": "3.8.8",
        "ready": True,
    }
    home.state.write_text(json.dumps({**state, **changes}))


def test_stale_states_are_recovered_without_asking(home: Home) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = Path(f"/proc/{other.pid}/stat").read_text().split()[21]
        for changes in (
            {},  # the process is gone
            {"pid": other.pid, "started": started},  # its id is another program's
            {"boot_id": "another boot"},
            {"pid": 1},
        ):
            stale(home, **changes)
            assert server.status() is None
            new = server.ensure()
            assert new.pid not in (other.pid, 1)
            assert server.stop()
            shutil.rmtree(home.path)
        assert other.poll() is None, "a stranger was killed"
    finally:
        other.kill()
        other.wait()


def test_another_service_on_the_port_is_not_taken_for_ours(home: Home, tmp_path: Path) -> None:
    theirs = server.ensure()
    assert theirs.pid
    home.state.rename(tmp_path / "state")
    port = int(theirs.ui_url.rpartition(":")[2])
    elsewhere = tmp_path / "elsewhere" / "prefect"
    elsewhere.parent.mkdir()
    os.environ["COMPOZY_HOME"] = str(elsewhere.parent)
    mine = Home(elsewhere)
    try:
        stale(mine, pid=theirs.pid, port=port)
        assert server.status() is None
        ours = server.ensure()
        assert ours.api_url != theirs.api_url
        assert server.stop()
        os.kill(theirs.pid, 0)
    finally:
        os.environ["COMPOZY_HOME"] = str(home.path.parent)
        kill_all(mine)


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="needs ps")
def test_processes_are_found_where_there_is_no_proc(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_state, "_PROC", tmp_path / "no proc")
    monkeypatch.setenv("COMPOZY_HOME", str(tmp_path / "plain letters"))
    plain = server_state.server_home(os.environ)
    try:
        first = server.ensure()
        assert server.status() == first
        plain.state.unlink()
        assert server.ensure() == first
        assert server.stop()
        assert server_state.running(plain) == []
    finally:
        kill_all(plain)


def test_a_hung_server_is_replaced(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HUNG_SECONDS", 0.5)
    monkeypatch.setattr(server, "STOP_SECONDS", 0.5)
    first = server.ensure()
    assert first.pid
    os.kill(first.pid, signal.SIGSTOP)
    told: list[str] = []
    second = server.ensure(notify=told.append)
    assert second.pid != first.pid
    assert told[1] == "the local Prefect server hangs or lost its folder; starting it again…"


def test_a_server_whose_folder_was_deleted_is_replaced(home: Home) -> None:
    first = server.ensure()
    shutil.rmtree(home.path)
    assert server.status() is None
    second = server.ensure()
    assert second.pid != first.pid
    assert server.status() == second
    home.state.unlink()
    assert [process.pid for process in server_state.running(home)] == [second.pid]


def test_a_start_whose_starter_was_killed_is_taken_over(home: Home) -> None:
    first = server.ensure()
    state = json.loads(home.state.read_text())
    home.state.write_text(json.dumps({**state, "ready": False}))
    assert first.pid
    os.kill(first.pid, signal.SIGSTOP)  # still starting
    waiting = threading.Event()
    found: list[Server] = []
    thread = threading.Thread(
        target=lambda: found.append(server.ensure(notify=lambda line: waiting.set()))
    )
    thread.start()
    assert waiting.wait(20)
    os.kill(first.pid, signal.SIGCONT)
    thread.join(20)
    assert found == [first]


def test_a_taken_port_that_was_asked_for_is_an_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnavailable, match=f"port {port}.*COMPOZY_PREFECT_PORT"):
            server.ensure(port=port)
        monkeypatch.setenv("COMPOZY_PREFECT_PORT", str(port))
        with pytest.raises(ServerUnavailable, match=f"port {port}"):
            server.ensure()
    assert server.ensure().api_url == f"http://127.0.0.1:{port}/api"
    told: list[str] = []
    server.ensure(port=port - 1, notify=told.append)
    assert "already runs" in told[0]


def test_a_taken_last_port_is_not(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stale(home, port=taken.getsockname()[1])
        assert server.ensure().pid


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_port_that_is_none_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("COMPOZY_PREFECT_PORT", port)
    with pytest.raises(UsageError, match="from 1 to 65535"):
        server.ensure()


def test_a_server_that_dies_at_the_start_tells_why(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_STAND_IN", "die")
    with pytest.raises(ServerUnavailable) as caught:
        server.ensure()
    assert "(exit status 3): sqlalchemy.exc.Error: no such table: flow." in str(caught.value)
    assert str(home.log) in str(caught.value)
    assert not home.state.exists()
    assert server.status() is None


def test_a_server_that_never_answers_is_given_up_and_ended(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_STAND_IN", "hush")
    monkeypatch.setattr(server_launch, "START_SECONDS", 0.5)
    with pytest.raises(ServerUnavailable, match="did not start within"):
        server.ensure()
    assert server_state.running(home) == []


def test_an_interrupted_start_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server_launch, "_wait_for_new", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.ensure()
    assert server_state.running(home) == []


def test_stop_ends_a_start_that_hangs(home: Home) -> None:
    starter = start_apart(
        {**os.environ, "PREFECT_STAND_IN": "hush"}, str(home.path.parents[1] / "server_main.py")
    )
    wait_for(lambda: server_state.running(home))
    assert server.stop()
    _, err = starter.communicate(timeout=30)
    assert starter.returncode == 1
    assert "stopped by signal 15" in err
    assert server_state.running(home) == []


def test_stop_kills_what_ignores_sigterm(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_STAND_IN", "stubborn")
    running = server.ensure()
    assert running.pid
    assert server.stop(timeout=0.3)
    assert server_state.running(home) == []
    assert not home.state.exists()
    assert not server.stop()


def test_stop_without_a_home_creates_none(tmp_path: Path) -> None:
    assert not server.stop()
    assert not (tmp_path / "a home, ünïcode").exists()


@pytest.mark.parametrize("base", ["user/below a file", "/proc/compozy"])
def test_a_home_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.setenv("COMPOZY_HOME", str(tmp_path / base))
    with pytest.raises(ServerUnavailable, match="set COMPOZY_HOME to a folder you can write"):
        server.ensure()
    assert server.status() is None


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    monkeypatch.setenv("COMPOZY_HOME", str(folder))
    try:
        yield Home(folder / "prefect")
    finally:
        kill_all(Home(folder / "prefect"))
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_before_the_start(small_disk: Home) -> None:
    with pytest.raises(ServerUnavailable, match=r"is full \(\d+ KiB free\).*COMPOZY_HOME"):
        server.ensure()
    assert server_state.running(small_disk) == []


def test_a_disk_that_fills_up_during_the_start_is_told(
    small_disk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real server; it cannot write its database, nor say so in its log."""
    monkeypatch.setattr(server, "ROOM_FIRST", 0)
    with pytest.raises(ServerUnavailable, match="is full"):
        server.ensure()
    assert server_state.running(small_disk) == []


# -- environments --


def test_the_servers_environment_holds_no_keys(tmp_path: Path) -> None:
    user = {
        "PATH": "/bin",
        "HOME": "",
        "LC_ALL": "C",
        "OPENAI_API_KEY": "sk-secret",
        "PREFECT_API_URL": "http://other/api",
        "PREFECT_API_KEY": "pnu-secret",
        "PREFECT_PROFILE": "work",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT_HOME": "/elsewhere",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    }
    made = server_launch.environment(user, Home(tmp_path), 4321)
    assert not {"OPENAI_API_KEY", "PREFECT_API_URL", "PREFECT_API_KEY"} & made.keys()
    assert not {"PREFECT_PROFILE", "PREFECT__SERVER_EPHEMERAL"} & made.keys()
    assert made["PREFECT_HOME"] == str(tmp_path)
    assert made["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert made["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE"] == "50"
    assert made["HOME"]


def test_apply_points_prefect_at_our_server_and_keeps_the_profile(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH"):
        monkeypatch.setenv(name, "")  # so that they are restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("COMPOZY_PREFECT_SERVER", "")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "profiles.toml").write_text(
        'active = "work"\n[profiles.work]\nPREFECT_LOGGING_LEVEL = "DEBUG"\n'
    )
    first = server.ensure()
    server.apply(first)
    assert os.environ["PREFECT_API_URL"] == first.api_url
    assert os.environ["PREFECT_HOME"] == str(home.path)
    assert os.environ["PREFECT_PROFILES_PATH"] == str(tmp_path / "profiles.toml")
    # Our own URL in the environment is not the user's: a dead server is replaced, not trusted.
    assert server.configured() is None
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    assert server.ensure().managed

    server.apply(Server("http://mine/api", "http://mine", pid=None, managed=False))
    assert server.ensure().api_url == "http://mine/api"


# -- the real server --


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], int]]:
    """Environment and process id of a real server that two first starts at once have made."""
    base = tmp_path_factory.mktemp("real")
    environment = {
        **bare_environment(base),
        "OPENAI_API_KEY": "sk-secret",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    }
    found = server_state.server_home(environment)
    starters: list[subprocess.Popen[str]] = []
    try:
        starters += [start_apart(environment), start_apart(environment)]
        pids = {finish(starter) for starter in starters}
        assert len(pids) == 1
        yield environment, pids.pop()
    finally:
        for starter in starters:
            starter.kill()
            starter.wait()
        kill_all(found)


@pytest.fixture
def real_server(
    real: tuple[dict[str, str], int], monkeypatch: pytest.MonkeyPatch
) -> tuple[Server, Home]:
    for name, value in real[0].items():
        monkeypatch.setenv(name, value)
    running = server.ensure()
    assert running.pid == real[1]
    return running, server_state.server_home(real[0])


def ask(url: str, body: object = None) -> Any:
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def test_two_first_starts_make_one_server_without_the_users_keys(
    real_server: tuple[Server, Home],
) -> None:
    running, home = real_server
    environment = dict(
        entry.split("=", 1)
        for entry in Path(f"/proc/{running.pid}/environ").read_text().split("\0")
        if entry
    )
    assert "OPENAI_API_KEY" not in environment
    assert "sk-secret" not in environment.values()
    assert environment.items() >= server_launch._SETTINGS.items()
    text = home.state.read_text()
    home.state.unlink()  # so that every process is looked at
    assert [process.pid for process in server_state.running(home)] == [running.pid]
    home.state.write_text(text)
    assert json.loads(text)["version"] == ask(f"{running.api_url}/admin/version")
    assert home.database.is_file()
    with urllib.request.urlopen(running.ui_url, timeout=20) as page:
        assert b"<html" in page.read()
    assert ask(f"{running.ui_url}/ui-settings")["api_url"] == running.api_url


def test_a_cron_deployment_gets_a_scheduled_run(real_server: tuple[Server, Home]) -> None:
    """SQLAlchemy 2.1 breaks this silently (prefect-recipes.md §0)."""
    api = real_server[0].api_url
    flow = ask(f"{api}/flows/", {"name": "nightly"})
    deployment = ask(
        f"{api}/deployments/",
        {
            "name": "nightly",
            "flow_id": flow["id"],
            "schedules": [{"active": True, "schedule": {"cron": "0 3 * * *", "timezone": "UTC"}}],
        },
    )
    chosen = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    runs = wait_for(lambda: ask(f"{api}/flow_runs/filter", chosen), seconds=30)
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}


def test_a_killed_real_server_comes_back_with_its_data_and_stops(
    real_server: tuple[Server, Home],
) -> None:
    running, home = real_server
    assert running.pid
    ask(f"{running.api_url}/flows/", {"name": "kept"})
    os.kill(running.pid, signal.SIGKILL)
    again = server.ensure()
    assert again.pid != running.pid
    assert again.api_url == running.api_url
    assert ask(f"{again.api_url}/flows/name/kept")["name"] == "kept"
    assert server.stop()
    assert server.status() is None
    assert server_state.running(home) == []
    with pytest.raises(urllib.error.URLError):
        ask(f"{again.api_url}/health")
