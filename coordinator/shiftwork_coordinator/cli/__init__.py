"""The `shiftwork` command: a client of the coordinator's API, and nothing more."""

from __future__ import annotations

from shiftwork_coordinator.cli.root import main as main

__all__ = ["main"]
