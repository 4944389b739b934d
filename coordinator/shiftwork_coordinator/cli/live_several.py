"""Several deployments as one picture that is redrawn in place, one under the other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live as RichLive

from shiftwork_coordinator.cli.follow import Back, Lost, Update
from shiftwork_coordinator.cli.live import AROUND, picture
from shiftwork_coordinator.cli.several import Screens
from shiftwork_coordinator.cli.views import Deployment
from shiftwork_coordinator.cli.watch import Screen
from shiftwork_coordinator.clock import SystemClock

HEAD = 3
"""Lines of each deployment that are not targets."""


class Together(Screens):
    def __init__(self, console: Console, clock: SystemClock, ids: Sequence[str]) -> None:
        super().__init__(clock)
        self._console = console
        self._views: dict[str, Deployment | None] = dict.fromkeys(ids)
        self._lost: dict[str, str] = {}
        self._live = RichLive(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def of(self, id: str) -> Screen:
        return _Part(self, id)

    def note(self, id: str, update: Update) -> None:
        if isinstance(update, Deployment):
            self._views[id] = update
        elif isinstance(update, Lost):
            self._lost[id] = f"{id}: connection lost: {update.reason}; trying again, the deployment goes on"
        elif isinstance(update, Back):
            self._lost.pop(id, None)
        self._draw()

    def _draw(self) -> None:
        shown = [(id, view) for id, view in self._views.items() if view is not None]
        room = max((self._console.size.height - AROUND) // max(len(shown), 1) - HEAD, 1)
        now = self._clock.now()
        parts = [picture(view, now, room, self._lost.get(id, "")) for id, view in shown]
        self._live.update(Group(*parts), refresh=True)

    def close(self) -> None:
        self._live.stop()


class _Part:
    def __init__(self, whole: Together, id: str) -> None:
        self._whole, self._id = whole, id

    def show(self, update: Update) -> None:
        self._whole.note(self._id, update)

    def close(self) -> None:
        """The whole picture is closed, not a part of it."""
