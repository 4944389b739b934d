"""The observer of a deployment's alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from shiftwork_coordinator.model.settings import Alarms
from shiftwork_coordinator.model.snapshot import AlarmSeen
from shiftwork_coordinator.ports import AlarmReading, AlarmSource
from shiftwork_coordinator.shell.observe import CALL_LIMIT


class AlarmObserver:
    """Keeps `seen` current: all alarms in one question, every `settings.every` seconds. `changed` is called when one
    looks different."""

    def __init__(self, settings: Alarms, source: AlarmSource, changed: Callable[[], None]) -> None:
        self._settings, self._source, self._changed = settings, source, changed
        self.seen: Mapping[str, AlarmSeen] = {}

    async def run(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(self._settings.every)

    async def ask(self) -> None:
        found = {name: AlarmSeen(r.state, r.reason, r.changed_at) for name, r in (await self._answers()).items()}
        if found != self.seen:
            self.seen = found
            self._changed()

    async def _answers(self) -> Mapping[str, AlarmReading]:
        names = self._settings.cloudwatch
        try:
            async with asyncio.timeout(CALL_LIMIT):
                return await self._source.states(names)
        except TimeoutError:
            why = f"no answer within {CALL_LIMIT:g} s"
        except Exception as err:  # noqa: BLE001  the edge of a driver call: a driver's bug is one source's trouble
            why = f"{type(err).__name__}: {err}"
        return {name: AlarmReading("UNREADABLE", why) for name in names}

    async def close(self) -> None:
        await self._source.close()
