"""Targets whose instance does not run any more."""

from __future__ import annotations

INSTANCE_GONE = "INSTANCE_GONE"
"""The code of a target whose instance was stopped, terminated, or is not there."""
