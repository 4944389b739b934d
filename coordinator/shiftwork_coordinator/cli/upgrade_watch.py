"""Follows an upgrade of agents to its end: a line for each thing that happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import click

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.cli.client import Api
from shiftwork_coordinator.cli.exits import DONE, FAILED
from shiftwork_coordinator.cli.options import Call
from shiftwork_coordinator.cli.output import clean, clock_time, duration, tell
from shiftwork_coordinator.cli.upgrade import path_of
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.ports import Clock

EVERY = 0.5
GIVE_UP = 600.0
"""Seconds without an answer after which it is no longer followed."""
QUIET = 10.0
"""Seconds without news after which it says what is waited for."""
View = dict[str, Any]


async def watch(api: Api, upgrade_id: str, call: Call, clock: Clock | None = None) -> int:
    """The exit code, once it has ended. Interrupting this leaves the upgrade running, and says so."""
    clock = clock or SystemClock()
    teller = Teller(clock, silent=call.json)
    try:
        while True:
            view = await _patiently(api, upgrade_id, clock)
            teller.show(view)
            if view.get("completeTime"):
                break
            await asyncio.sleep(EVERY)
    except asyncio.CancelledError:
        tell(f"\nThe upgrade goes on. Watch it: shiftwork upgrade --status {upgrade_id}\n"
             f"Stop it: shiftwork upgrade --stop {upgrade_id}")  # fmt: skip
        raise
    if call.json:
        click.echo((await api.ask("GET", path_of(upgrade_id))).pretty())
    return DONE if view.get("status") == "Succeeded" else FAILED


async def _patiently(api: Api, upgrade_id: str, clock: Clock) -> View:
    """A coordinator that restarts is waited for."""
    since = clock.monotonic()
    while True:
        try:
            return (await api.ask("GET", path_of(upgrade_id))).read(View)
        except Unavailable:
            if clock.monotonic() - since > GIVE_UP:
                raise
            await asyncio.sleep(EVERY)


class Teller:
    """Prints what changed from one view to the next."""

    def __init__(self, clock: Clock, *, silent: bool) -> None:
        self._clock, self._silent = clock, silent
        self._told: dict[str, str] = {}
        self._begun = False
        self._told_at = clock.monotonic()

    def show(self, view: View) -> None:
        for line in [] if self._silent else self._news(view):
            self._told_at = self._clock.monotonic()
            click.echo(clean(line))

    def _news(self, view: View) -> Iterator[str]:
        if not self._begun:
            self._begun = True
            yield heading(view)
        for target in view.get("targets", ()):
            name, status = str(target.get("targetId")), str(target.get("status"))
            if status not in (self._told.get(name), "Pending"):
                self._told[name] = status
                yield f"{clock_time(self._clock.now())} {_target(target)}"
        if view.get("completeTime"):
            yield summary(view)
        elif self._clock.monotonic() - self._told_at >= QUIET:
            yield from _waiting(view)


def lines(view: View) -> Iterator[str]:
    """All of it, for `--status`."""
    yield clean(heading(view))
    for target in view.get("targets", ()):
        yield clean("  " + _target(target))
    yield from (clean(line) for line in ([summary(view)] if view.get("completeTime") else _waiting(view)))


def heading(view: View) -> str:
    return (
        f"Upgrade {view.get('upgradeId')} to {view.get('version')}: {len(view.get('targets', ()))} agents,"
        f" {view.get('atOnce')} at once, {view.get('status')}"
    )


def summary(view: View) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in view.get("overview", {}).items() if count)
    took = duration(float(view.get("completeTime") or 0) - float(view.get("createTime") or 0))
    error = view.get("errorInformation")
    why = f": {error.get('message')}" if isinstance(error, dict) else ""
    return f"Upgrade {view.get('upgradeId')} {view.get('status')} after {took} ({counts}){why}"


def _target(target: View) -> str:
    was = f" (was {target['fromVersion']})" if target.get("fromVersion") else ""
    why = f": {target['reason']}" if target.get("reason") else ""
    return f"{target.get('targetId')} {target.get('status')}{was}{why}"


def _waiting(view: View) -> Iterator[str]:
    for reason in list(view.get("waiting", ()))[:3]:
        yield f"  waiting: {reason.get('target')}: {reason.get('message')}"
