"""Follows several deployments at once, and those that roll them back, on whatever screen there is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing

import click

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.cli.client import Api
from shiftwork_coordinator.cli.exits import DONE, FAILED
from shiftwork_coordinator.cli.follow import Pace, Update, follow
from shiftwork_coordinator.cli.options import deployment_path
from shiftwork_coordinator.cli.output import tell
from shiftwork_coordinator.cli.plain import Plain
from shiftwork_coordinator.cli.views import Deployment
from shiftwork_coordinator.cli.watch import Screen, Silent, drawn
from shiftwork_coordinator.cli.words import summary
from shiftwork_coordinator.clock import SystemClock


class Several:
    """Over one connection."""

    def __init__(self, api: Api, *, silent: bool, pace: Pace | None = None) -> None:
        self._api, self._silent, self._pace, self._clock = api, silent, pace or Pace(), SystemClock()

    async def to_the_end(self, ids: Sequence[str]) -> tuple[int, list[str]]:
        """The exit code, DONE only if all succeeded, and the ids of the deployments that rolled some back."""
        ended = await self._all(ids)
        back = [one.rolled_back_by for one in ended if one.rolled_back_by]
        if back:
            self._say(f"Rolling back: {', '.join(back)}")
            await self._all(back)
        return (DONE if all(one.status == "Succeeded" for one in ended) else FAILED), back

    async def raw(self, ids: Sequence[str]) -> list[object]:
        return [(await self._api.ask("GET", deployment_path(id))).read(object) for id in ids]

    async def _all(self, ids: Sequence[str]) -> list[Deployment]:
        with closing(_screens(self._clock, ids, silent=self._silent)) as screens:
            ended = await self._followed(ids, screens)
        for one in ended:
            for line in summary(one):
                self._say(line)
        return ended

    async def _followed(self, ids: Sequence[str], screens: Screens) -> list[Deployment]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(id, screens.of(id))) for id in ids]
        except asyncio.CancelledError:
            tell(f"\nThe deployments go on. Watch them: shiftwork status ID, for {', '.join(ids)}")
            raise
        except BaseExceptionGroup as err:
            raise next((one for one in err.exceptions if isinstance(one, ShiftworkError)), err) from err
        return [task.result() for task in tasks]

    async def _one(self, id: str, screen: Screen) -> Deployment:
        last: Update | None = None
        async for last in follow(self._api, id, self._clock, self._pace):
            screen.show(last)
        if not isinstance(last, Deployment):
            raise AssertionError("follow ends with a deployment")
        return last

    def _say(self, line: str) -> None:
        if not self._silent:
            click.echo(line)


class Screens:
    """Plain lines, each with the deployment that it is of; nothing stays open."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock

    def of(self, id: str) -> Screen:
        return Plain(lambda line: click.echo(f"{id}  {line}"), self._clock)

    def close(self) -> None: ...


class _Nothing(Screens):
    def of(self, id: str) -> Screen:
        return Silent()


def _screens(clock: SystemClock, ids: Sequence[str], *, silent: bool) -> Screens:
    if silent:
        return _Nothing(clock)
    if not drawn(sys.stdout):
        return Screens(clock)
    from rich.console import Console

    from shiftwork_coordinator.cli.live_several import Together

    return Together(Console(), clock, ids)
