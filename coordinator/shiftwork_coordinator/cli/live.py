"""Progress as a picture that is redrawn in place: one line per target, as many as the terminal has room for."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from shiftwork_coordinator.cli.follow import Back, Lost, Update
from shiftwork_coordinator.cli.output import clean, duration
from shiftwork_coordinator.cli.views import Deployment, History, Target
from shiftwork_coordinator.cli.words import event_time, presence, reasons, standing
from shiftwork_coordinator.ports import Clock

MARKS = {
    "Pending": ("·", "dim"),
    "InProgress": ("▶", "cyan"),
    "Ready": ("▶", "cyan"),
    "Succeeded": ("✔", "green"),
    "Failed": ("✘", "bold red"),
    "Skipped": ("-", "dim"),
}
ORDER = ("Failed", "InProgress", "Ready", "Unknown", "Pending", "Succeeded", "Skipped")
"""What gives way first when there are more targets than lines stands last."""
COLUMNS = ((1, 1), (14, 32), (18, 20), (6, 12), (0, None))
"""Least and greatest width of mark, target, event, time and traffic: 80 columns hold them all."""
AROUND = 8
"""Lines of the screen that are not targets."""


class Live:
    """Draws each update on `console`; `close` leaves the last picture standing."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._view: Deployment | None = None
        self._lost = ""
        self._live = RichLive(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def show(self, update: Update) -> None:
        if isinstance(update, Deployment):
            self._view = update
        elif isinstance(update, Lost):
            self._lost = f"connection lost: {update.reason}; trying again, the deployment goes on"
        elif isinstance(update, Back):
            self._lost = ""
        if isinstance(update, History):
            return  # the view that follows it shows the same
        if self._view is not None or self._lost:
            room = max(self._console.size.height - AROUND, 3)
            self._live.update(picture(self._view, self._clock.now(), room, self._lost), refresh=True)

    def close(self) -> None:
        self._live.stop()


def picture(view: Deployment | None, now: float, room: int, lost: str = "") -> RenderableType:
    """The deployment in at most `room` target lines, between a heading and the reasons why it waits."""
    parts: list[RenderableType] = []
    if view is not None:
        parts += [Text(_heading(view, now), style="bold"), Text(standing(view)), _targets(view, now, room)]
        parts += [Text(f"  waiting: {line}", style="yellow") for line in _waiting(view, now)]
    if lost:
        parts.append(Text(clean(lost), style="bold yellow"))
    return Group(*parts)


def _heading(view: Deployment, now: float) -> str:
    begun = view.start_time or view.create_time
    took = f", {duration((view.complete_time or now) - begun)}" if begun else ""
    return clean(f"{view.deployment_id} {view.group}: {view.status}{took}")


def _waiting(view: Deployment, now: float) -> list[str]:
    return [] if view.ended else reasons(view, now, most=3)


def _targets(view: Deployment, now: float, room: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    for least, most in COLUMNS:
        grid.add_column(min_width=least, max_width=most, no_wrap=True, overflow="ellipsis")
    shown = _chosen(view.targets, room)
    for target in shown:
        grid.add_row(*_line(target, now))
    left = [target.status for target in view.targets if target not in shown]
    if left:
        told = ", ".join(f"{left.count(status)} {status}" for status in ORDER if status in left)
        grid.add_row("", f"and {len(left)} more", "", "", told)
    return grid


def _chosen(targets: tuple[Target, ...], room: int) -> list[Target]:
    """As many as there is room for, those that matter most, in their usual order."""
    if len(targets) <= room:
        return list(targets)
    rank = {status: number for number, status in enumerate(ORDER)}
    best = sorted(targets, key=lambda target: rank.get(target.status, 0))[: room - 1]
    return [target for target in targets if target in best]


def _line(target: Target, now: float) -> tuple[Text, ...]:
    mark, style = MARKS.get(target.status, ("?", "yellow"))
    event = target.current()
    name = event.lifecycle_event_name if event is not None and target.status != "Succeeded" else ""
    took = event_time(event, now) if name else _whole(target)
    traffic = f"traffic {target.traffic}" if target.traffic else ""
    if target.agent.connected is False:
        traffic = f"{traffic}  agent {presence(target.agent, now)}".lstrip()
    cells = (mark, target.shown, name or target.stands or target.status, took, traffic)
    return tuple(Text(clean(cell), style=style if number in (0, 2) else "") for number, cell in enumerate(cells))


def _whole(target: Target) -> str:
    if target.start_time is None or target.complete_time is None:
        return ""
    return duration(target.complete_time - target.start_time)
