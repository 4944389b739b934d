"""What this host is, and how the agent came to be on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from shiftwork_contract.messages import HostFacts

HOME = "/opt/shiftwork-agent"
"""Where the packages put the agent's own Python."""


def host_facts(root: Path = Path("/"), prefix: str = sys.prefix) -> HostFacts:
    """`root` holds the system's files, `prefix` is that of the Python which runs the agent."""
    about = _os_release(root)
    return HostFacts(os.uname().machine, about.get("ID", ""), about.get("VERSION_ID", ""), _package(root, prefix))


def _os_release(root: Path) -> dict[str, str]:
    for name in ("etc/os-release", "usr/lib/os-release"):
        try:
            lines = (root / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {key.strip(): value.strip().strip("\"'")[:64] for key, _, value in pairs}
    return {}


def _package(root: Path, prefix: str) -> Literal["", "deb", "rpm"]:
    """dpkg keeps a list of the package's files; rpm keeps one database, wherever the distribution has it."""
    if Path(prefix) != Path(HOME):
        return ""
    if (root / "var/lib/dpkg/info/shiftwork-agent.list").exists():
        return "deb"
    rpm = any((root / name).exists() for name in ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"))
    return "rpm" if rpm else ""


def has_systemd(root: Path = Path("/")) -> bool:
    return (root / "run/systemd/system").is_dir()
