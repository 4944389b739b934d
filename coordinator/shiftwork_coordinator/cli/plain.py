"""Progress as plain lines, one per thing that happened: for logs and pipes, never silent for long."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_coordinator.cli.follow import Back, Lost, Update
from shiftwork_coordinator.cli.output import clean, clock_time
from shiftwork_coordinator.cli.views import Deployment, History
from shiftwork_coordinator.cli.words import progress, reasons, share
from shiftwork_coordinator.ports import Clock

SILENCE = 10.0
"""Seconds after which a line says why nothing happens."""


class Plain:
    """Prints `time target event status` per history entry, and every SILENCE seconds without one the reasons."""

    def __init__(self, echo: Callable[[str], None], clock: Clock) -> None:
        self._echo, self._clock = echo, clock
        self._spoken_at = clock.monotonic()
        self._view: Deployment | None = None

    def show(self, update: Update) -> None:
        if isinstance(update, History):
            self._say(update.at, f"{update.target or '-':<14}  {happened(update)}")
        elif isinstance(update, Lost):
            self._say(self._clock.now(), f"connection lost: {update.reason}; trying again, the deployment goes on")
        elif isinstance(update, Back):
            self._say(self._clock.now(), "connected again")
        elif isinstance(update, Deployment):
            self._view = update
        if self._clock.monotonic() - self._spoken_at >= SILENCE:
            self._explain()

    def close(self) -> None:
        """Nothing stays open."""

    def _explain(self) -> None:
        now = self._clock.now()
        if self._view is None:
            self._say(now, "waiting for the coordinator's first word")
            return
        self._say(now, progress(self._view))
        for line in reasons(self._view, now, most=4):
            self._say(now, f"  waiting: {line}")

    def _say(self, at: float, line: str) -> None:
        self._echo(clean(f"{clock_time(at)}  {line}".rstrip()))
        self._spoken_at = self._clock.monotonic()


def happened(entry: History) -> str:
    """What happened, without when and to which target."""
    teller = TELLERS.get(entry.kind)
    return teller(entry.data) if teller else f"{entry.kind} {_rest(entry.data)}"


def _event(data: dict[str, object]) -> str:
    return f"{data.get('event', '')!s:<18}  {data.get('status', '')}" + _message(data)


def _batch(data: dict[str, object]) -> str:
    targets = data.get("targets")
    names = ", ".join(map(str, targets)) if isinstance(targets, list) else ""
    serving = data.get("inService")
    known = "" if serving is None else f" (in service now: {serving})"
    return f"batch {data.get('number', '')} begins: {names}{known}"


def _message(data: dict[str, object]) -> str:
    return f"  {data['message']}" if data.get("message") else ""


def _rest(data: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in data.items() if value not in ("", None))


TELLERS: dict[str, Callable[[dict[str, object]], str]] = {
    "event": _event,
    "batch": _batch,
    "deployment": lambda data: f"{'deployment':<18}  {data.get('status', '')}" + _message(data),
    "target": lambda data: f"{'target':<18}  {data.get('status', '')}" + _message(data),
    "halted": lambda data: f"halted: {data.get('code', '')}" + _message(data),
    "weight": lambda data: f"{share(data.get('weight'))} of the traffic is on the replacement",
    "floor": lambda data: f"minimum {data.get('minimum', '?')} from here on: {data.get('total', '?')} targets are left",
    "gone": lambda data: f"{'instance':<18}  gone" + _message(data),
    "cut": lambda data: f"{data.get('requests', '?')} requests in flight were cut" + _message(data),
}
