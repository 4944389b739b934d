"""The lab's parts that need neither a coordinator nor a container engine."""

import asyncio
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.lab import application, bundles, lifecycle, links, plan, processes
from shiftwork_coordinator.lab.plan import Instance, Lab
from shiftwork_coordinator.lab.ports import free_ports
from shiftwork_coordinator.lab.process import Processes

PORTS = {"coordinator": 7070, "balancer": 8000, "admin": 2019}


def lab(directory, runtime="process"):
    directory.mkdir(exist_ok=True)
    return Lab("lab-x", runtime, directory, PORTS, (Instance("web-1", "127.77.9.1"),), token="swt_secret")


def until(done, within=60.0):
    end = time.monotonic() + within
    while not done():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_a_lab_is_read_back_as_it_was_saved_and_is_private(tmp_path):
    plan.save(lab(tmp_path))
    assert plan.load(tmp_path) == lab(tmp_path)
    assert (tmp_path / plan.FILE).stat().st_mode & 0o077 == 0


def test_no_lab_says_how_to_start_one(tmp_path):
    with pytest.raises(InvalidRequest, match="shiftwork lab up"):
        plan.load(tmp_path)


def test_an_unknown_instance_is_named_with_those_there_are(tmp_path):
    with pytest.raises(InvalidRequest, match=r"'web-9'.*web-1"):
        lab(tmp_path).instance("web-9")


def test_the_settings_are_accepted_by_the_model(tmp_path):
    import msgspec

    from shiftwork_coordinator.model.settings import DURATIONS, GroupSettings

    for kind in ("process", "docker"):
        settings = application.settings(lab(tmp_path, kind))
        seconds = _in_seconds(settings, DURATIONS)
        assert msgspec.convert(seconds, GroupSettings).rollback == ("failure",)


def _in_seconds(value, names):
    def one(key, each):
        if key in names and isinstance(each, str):
            return float(each.removesuffix("ms")) / 1000 if each.endswith("ms") else float(each.removesuffix("s"))
        return _in_seconds(each, names)

    return {key: one(key, each) for key, each in value.items()} if isinstance(value, dict) else value


class Application:
    """The demo application on its own address, run by its own hooks as an agent would run them."""

    def __init__(self, root: Path, address: str) -> None:
        self.root, self.url = root, f"http://{address}:8080"
        (root / "etc").mkdir(parents=True)
        about = f"ADDRESS={address}\nCHECK={address}\nNAME=web-1\nPYTHON={sys.executable}\n"
        (root / "etc" / "demo-app.env").write_text(about)

    def install(self, bundle: Path) -> None:
        self.bundle = bundle
        target = self.root / "opt" / "web"
        subprocess.run(["rm", "-rf", str(target)], check=True)
        target.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(bundle / "web"), str(target)], check=True)

    def hook(self, name: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "SHIFTWORK_INSTALL_ROOT": str(self.root)}
        script = self.bundle / "hooks" / f"{name}.sh"
        return subprocess.run([str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False)

    def deploy(self, bundle: Path) -> subprocess.CompletedProcess[str]:
        self.install(bundle)
        for name in ("before_install", "application_start"):
            assert self.hook(name).returncode == 0
        return self.hook("validate_service")

    def ask(self, path: str = "/") -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.headers["X-Version"]
        except urllib.error.HTTPError as err:
            return err.code, err.headers["X-Version"]


@pytest.fixture
def app(tmp_path):
    made = Application(tmp_path / "root", "127.77.250.1")
    yield made
    processes.end_all(made.root)


def test_hooks_start_validate_and_stop_the_application(app, tmp_path):
    validated = app.deploy(bundles.make(tmp_path / "b", "v1"))
    assert (validated.returncode, validated.stdout) == (0, "v1 answers GET /\n")
    assert app.ask() == (200, "v1")
    assert app.hook("application_stop").returncode == 0
    assert processes.of(app.root) == []


def test_stopping_finishes_what_is_in_flight(app, tmp_path):
    app.deploy(bundles.make(tmp_path / "b", "v1"))
    command = [sys.executable, "-c", f"import urllib.request as u; u.urlopen('{app.url}/slow?seconds=1').read()"]
    with subprocess.Popen(command) as slow:
        pid = (app.root / "var" / "lib" / "demo-app" / "pid").read_text().strip()
        until(lambda: len(list(Path(f"/proc/{pid}/task").iterdir())) > 1)
        assert app.hook("application_stop").returncode == 0
        assert slow.wait(timeout=60) == 0


def test_the_broken_revision_fails_its_validation_and_says_why(app, tmp_path):
    validated = app.deploy(bundles.make_all(tmp_path / "b")["v3"])
    assert validated.returncode == 1
    assert "v3 answers GET / with 500: cannot read the price list" in validated.stderr


def test_a_cold_application_answers_nothing_but_503(app, tmp_path):
    app.install(bundles.make(tmp_path / "b", "v1"))
    app.hook("before_install")
    app.hook("application_start")
    answers = []

    def warm():
        try:
            answers.append(app.ask()[0])
        except urllib.error.URLError:
            return False
        return answers[-1] == 200

    until(warm)
    assert 503 in answers


def test_keep_running_starts_a_killed_command_again_and_ends_with_it(tmp_path):
    home, pid_file = tmp_path / "home", tmp_path / "pid"
    processes.keep_running(home, pid_file, ["sleep", "600"], tmp_path / "log")
    until(lambda: processes.alive(pid_file))
    first = processes.alive(pid_file)
    first.send_signal(signal.SIGKILL)
    until(lambda: (now := processes.alive(pid_file)) and now.pid != first.pid)
    processes.end_all(home)
    assert processes.of(home) == []
    assert not pid_file.exists()


def test_processes_belong_by_directory_and_not_by_prefix_of_its_name(tmp_path):
    processes.start(tmp_path / "lab" / "a", ["sleep", "600"], tmp_path / "log")
    processes.start(tmp_path / "lab-other", ["sleep", "600"], tmp_path / "log")
    try:
        until(lambda: len(processes.of(tmp_path)) == 2)
        assert len(processes.of(tmp_path / "lab")) == 1
        processes.end_all(tmp_path / "lab")
        assert len(processes.of(tmp_path)) == 1
    finally:
        processes.end_all(tmp_path)


@pytest.mark.parametrize("verb", ["cut", "heal"])
def test_what_processes_cannot_suffer_is_refused(tmp_path, verb):
    with pytest.raises(InvalidRequest, match="name an instance"):
        Processes().fault(lab(tmp_path), verb, "coordinator")


async def test_a_cut_link_delivers_late_and_closes_nothing(tmp_path):
    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    link_port = free_ports(1)[0]
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        target = server.sockets[0].getsockname()[1]
        command = [sys.executable, "-m", links.__name__, str(tmp_path), str(target), f"web-1={link_port}"]
        processes.start(tmp_path, command, tmp_path / "log")
        try:
            reader, writer = await _connected(link_port)
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            (tmp_path / "web-1").touch()
            await asyncio.sleep(2 * links.LOOK_EVERY)
            writer.write(b"while cut")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.5)
            (tmp_path / "web-1").unlink()
            assert await asyncio.wait_for(reader.readexactly(9), 60) == b"while cut"
            writer.close()
            await writer.wait_closed()
        finally:
            processes.end_all(tmp_path)


async def _connected(port):
    for _ in range(200):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
    raise AssertionError("nobody listens")


def test_a_path_that_is_too_long_for_a_socket_is_refused_at_once(tmp_path):
    with pytest.raises(InvalidRequest, match="shorter path"):
        Processes().layout(lab(tmp_path / ("x" * 80)), 1)


def test_waiting_ends_with_what_was_missing():
    with pytest.raises(Unavailable, match=r"for the moon. it is cloudy"):
        lifecycle.wait_until(lambda: False, "the moon", print, within=0.0, why=lambda: "it is cloudy")


def test_a_directory_with_other_things_in_it_is_not_taken(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InvalidRequest, match="not empty"):
        lifecycle._reserve(tmp_path, Processes(), "")
