"""The revision that is deployed: three hooks that stop, start and validate, each of a known duration."""

from __future__ import annotations

from pathlib import Path

WORK = 0.2
"""Seconds that each of the three scripts sleeps: a stand-in for the work of a real one."""
EVENTS = {"stop": "ApplicationStop", "start": "ApplicationStart", "validate": "ValidateService"}


def script(name: str, version: str, work: float = WORK) -> str:
    return f"#!/bin/sh\nset -e\necho {version} > /tmp/bench-{name}\nsleep {work:g}\n"


def trivial(directory: Path, version: str = "v1", work: float = WORK) -> Path:
    """A bundle with the three hooks in a new `directory`."""
    hooks = directory / "hooks"
    hooks.mkdir(parents=True)
    spec = ["version: 0.0", "os: linux", "hooks:"]
    for name, event in EVENTS.items():
        path = hooks / f"{name}.sh"
        path.write_text(script(name, version, work))
        path.chmod(0o755)
        spec += [f"  {event}:", f"    - location: hooks/{name}.sh", "      timeout: 60"]
    (directory / "appspec.yml").write_text("\n".join(spec) + "\n")
    return directory


def many(directory: Path, version: str, files: int) -> Path:
    """As `trivial`, with so many files of 4 KiB that are other ones in each version, to be installed below /srv."""
    trivial(directory, version, work=0.0)
    (directory / "app").mkdir()
    for number in range(files):
        (directory / "app" / f"{number:05}").write_bytes((f"{version} {number:05} " * 512).encode()[:4096])
    spec = directory / "appspec.yml"
    spec.write_text(f"{spec.read_text()}files:\n  - source: app\n    destination: /srv/bench\n")
    return directory
