"""Follows a deployment, and the one that rolls it back, on whatever screen there is."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import closing
from typing import Protocol, TextIO

import click

from shiftwork_coordinator.cli.client import Answer, Api
from shiftwork_coordinator.cli.exits import DONE, FAILED
from shiftwork_coordinator.cli.follow import Pace, Update, follow
from shiftwork_coordinator.cli.options import deployment_path
from shiftwork_coordinator.cli.output import tell
from shiftwork_coordinator.cli.plain import Plain
from shiftwork_coordinator.cli.views import Deployment
from shiftwork_coordinator.cli.words import summary
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.ports import Clock


class Screen(Protocol):
    def show(self, update: Update) -> None:
        """Something happened, or time passed."""

    def close(self) -> None:
        """Nothing more will be shown."""


class Silent:
    """For --output json: stdout belongs to the result."""

    def show(self, update: Update) -> None: ...

    def close(self) -> None: ...


class Watch:
    """Follows deployments over one connection."""

    def __init__(self, api: Api, *, silent: bool, clock: Clock | None = None, pace: Pace | None = None) -> None:
        self._api, self._silent = api, silent
        self._clock = clock or SystemClock()
        self._pace = pace or Pace()

    async def to_the_end(self, deployment_id: str) -> int:
        """The exit code, once the deployment and a rollback that it caused have ended: DONE only if it succeeded.

        Interrupting this leaves the deployment running, and says so.
        """
        ended = await self._one(deployment_id)
        if ended.rolled_back_by:
            self._say(f"Rolling back: deployment {ended.rolled_back_by}")
            await self._one(ended.rolled_back_by)
        return DONE if ended.status == "Succeeded" else FAILED

    async def rollback_to_the_end(self, asked: str, answered: str) -> tuple[int, str]:
        """The same for a rollback of `asked`; `answered` is its id, or that of `asked` while it still stops.

        Returns the id of the deployment that ended last, too.
        """
        if answered == asked:
            ended = await self._one(asked)
            answered = ended.rolled_back_by
            if not answered:
                self._say(f"Deployment {asked} was not rolled back: there is no deployment that does it")
                return FAILED, asked
            self._say(f"Rolling back: deployment {answered}")
        return DONE if (await self._one(answered)).status == "Succeeded" else FAILED, answered

    async def raw(self, deployment_id: str) -> Answer:
        return await self._api.ask("GET", deployment_path(deployment_id))

    async def _one(self, deployment_id: str) -> Deployment:
        try:
            ended = await self._followed(deployment_id)
        except asyncio.CancelledError:
            tell(_left_running(deployment_id))
            raise
        for line in summary(ended):
            self._say(line)
        return ended

    async def _followed(self, deployment_id: str) -> Deployment:
        last: Update | None = None
        with closing(screen(self._clock, silent=self._silent)) as shown:
            async for last in follow(self._api, deployment_id, self._clock, self._pace):
                shown.show(last)
        if not isinstance(last, Deployment):
            raise AssertionError("follow ends with a deployment")
        return last

    def _say(self, line: str) -> None:
        if not self._silent:
            click.echo(line)


def screen(clock: Clock, *, silent: bool) -> Screen:
    """Live where a terminal can redraw lines, plain elsewhere."""
    if silent:
        return Silent()
    if not drawn(sys.stdout):
        return Plain(click.echo, clock)
    from rich.console import Console

    from shiftwork_coordinator.cli.live import Live

    return Live(Console(), clock)


def drawn(stream: TextIO) -> bool:
    """Whether it is a terminal on which lines can be redrawn."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")


def _left_running(deployment_id: str) -> str:
    return (
        f"\nThe deployment goes on. Watch it: shiftwork status {deployment_id}\nStop it: shiftwork stop {deployment_id}"
    )
