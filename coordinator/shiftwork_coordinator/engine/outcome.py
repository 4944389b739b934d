"""What a stage says of a target: DONE, WAIT (with a reason noted), STOPPED, or why it failed."""

from __future__ import annotations

import msgspec


class Failed(msgspec.Struct, frozen=True):
    code: str
    message: str


class Step(msgspec.Struct, frozen=True):
    name: str


DONE, WAIT, STOPPED = Step("done"), Step("wait"), Step("stopped")
Outcome = Step | Failed
