"""The agent as a service of this host, where systemd is to run it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

from shiftwork_agent.layout import DEFAULT_CONFIG, DEFAULT_STATE

UNIT = "shiftwork-agent.service"
BOOTED = Path("/run/systemd/system")
"""Is there where systemd is the init process, and nowhere else."""

Started = Literal["started", "failed", "none"]


def start(state: Path, config_file: Path, booted: Path = BOOTED) -> Started:
    """Starts the unit when it is enabled, and belongs to this state directory and these settings.

    `none` when there is nothing to start: no systemd, no unit, a disabled one, or other places than the unit's.
    """
    if (state, config_file) != (DEFAULT_STATE, DEFAULT_CONFIG) or not booted.is_dir():
        return "none"
    if not _systemctl("is-enabled", "--quiet", UNIT):
        return "none"
    return "started" if _systemctl("start", UNIT) else "failed"


def _systemctl(*args: str) -> bool:
    try:
        done = subprocess.run(["systemctl", *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def told(started: Started) -> str:
    """What an operator who has just joined needs to know."""
    texts: dict[Started, str] = {
        "started": f"The agent runs: {UNIT} is started.",
        "failed": f"The agent does not run: {UNIT} cannot be started; see `journalctl -u {UNIT}`.",
        "none": "Start the agent with `shiftwork-agent run`.",
    }
    return texts[started]
