"""The application `web` as this lab deploys it: its shiftwork.yml."""

from __future__ import annotations

from pathlib import Path

import yaml

from shiftwork_coordinator.lab.lifecycle import runtime_of
from shiftwork_coordinator.lab.plan import APP_PORT, TAGS, Lab

APPLICATION, GROUP = "web", "production"
GROUP_NAME = f"{APPLICATION}/{GROUP}"
CONFIG = "HalfAtATime"


def settings(lab: Lab) -> dict[str, object]:
    """The group's settings: half at a time, out of traffic before touched, rolled back on failure."""
    where = runtime_of(lab)
    return {
        "instances": {"tags": {key: [value] for key, value in TAGS.items()}},
        "config": CONFIG,
        "port": APP_PORT,
        "load_balancers": [where.balancer_settings(lab)],
        "health": where.health(),
        "quiet": {"port": APP_PORT, "for": "500ms", "at_most": "20s", "then": "proceed"},
        "rollback": ["failure"],
    }


def write(lab: Lab, **changes: object) -> Path:
    """`shiftwork.yml` in the lab's directory, with `changes` to the group's settings."""
    path = lab.directory / "shiftwork.yml"
    whole = {"application": APPLICATION, "groups": {GROUP: {**settings(lab), **changes}}}
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path
