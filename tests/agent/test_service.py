"""A join starts the service where an operator wants it to run, and touches nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftwork_agent import service
from shiftwork_agent.layout import DEFAULT_CONFIG, DEFAULT_STATE


class Host:
    """A host whose `systemctl` is a script that writes down what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.asked, self.booted = directory / "asked", directory / "booted"
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.booted.mkdir()

    def has_systemctl(self, *, enabled: int = 0, start: int = 0) -> None:
        script = f'echo "$*" >>{self.asked}; case $1 in is-enabled) exit {enabled} ;; start) exit {start} ;; esac'
        program = self.bin / "systemctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def start(self, state: Path = DEFAULT_STATE, config: Path = DEFAULT_CONFIG) -> tuple[str, list[str]]:
        done = service.start(state, config, self.booted)
        return done, self.asked.read_text().splitlines() if self.asked.exists() else []


ASKS = "is-enabled --quiet shiftwork-agent.service"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path)
    monkeypatch.setenv("PATH", str(found.bin))
    return found


def test_an_enabled_unit_is_started(host: Host) -> None:
    host.has_systemctl()
    assert host.start() == ("started", [ASKS, "start shiftwork-agent.service"])


def test_a_unit_that_does_not_start_is_told(host: Host) -> None:
    host.has_systemctl(start=1)
    assert host.start()[0] == "failed"
    assert "journalctl" in service.told("failed")


def test_a_disabled_or_absent_unit_is_left_alone(host: Host) -> None:
    host.has_systemctl(enabled=1)
    assert host.start() == ("none", [ASKS])


def test_other_places_than_the_unit_s_are_nobody_s_service(host: Host, tmp_path: Path) -> None:
    host.has_systemctl()
    assert host.start(state=tmp_path) == ("none", [])
    assert host.start(config=tmp_path / "agent.yml") == ("none", [])


def test_a_host_without_systemd_is_not_asked(host: Host) -> None:
    assert host.start()[0] == "none"  # no systemctl at all
    host.has_systemctl()
    host.booted.rmdir()
    assert host.start() == ("none", [])
