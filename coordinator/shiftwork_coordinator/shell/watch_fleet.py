"""The observer of a deployment's instances in EC2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from shiftwork_coordinator.model.status import FOR_GOOD
from shiftwork_coordinator.ports import Fleets

log = structlog.get_logger()
EASY, MOST = 10.0, 160.0
"""Seconds between two questions; doubled up to MOST while EC2 does not answer or throttles."""
LIMIT = 30.0
"""Seconds for all pages of an answer."""


def pause_after(pause: float, *, answered: bool) -> float:
    """Seconds until the next question, after those before the last one."""
    return EASY if answered else min(MOST, pause * 2)


class FleetObserver:
    """Keeps `gone` current: by target, the state of an instance that does not run. `ids` tells EC2's by target. With
    `all_there` every one was in EC2 at the start, so that one which EC2 does not know any more is gone; that is asked
    once, since EC2 shows what was terminated for long enough. `changed` is called when something looks different."""

    def __init__(
        self,
        fleets: Fleets,
        ids: Callable[[], Mapping[str, str]],
        deployment_id: str,
        changed: Callable[[], None],
        *,
        all_there: bool,
    ) -> None:
        self._fleets, self._ids, self._deployment_id, self._changed = fleets, ids, deployment_id, changed
        self._missing = all_there
        self.gone: Mapping[str, str] = {}

    async def run(self) -> None:
        pause = EASY
        while True:
            pause = pause_after(pause, answered=await self.ask())
            await asyncio.sleep(pause)

    def _open(self) -> dict[str, str]:
        """Those that may still go, by id."""
        return {id: name for name, id in self._ids().items() if self.gone.get(name) not in FOR_GOOD}

    async def ask(self) -> bool:
        """Whether EC2 answered. It is not asked about nobody."""
        asked = self._open()
        if not asked:
            return True
        try:
            async with asyncio.timeout(LIMIT):
                found = await self._fleets.lost(list(asked), missing=self._missing)
        except TimeoutError:
            return self._failed(f"no answer within {LIMIT:g} s")
        except Exception as err:  # noqa: BLE001  the edge of a driver call: nothing is known then, and nobody is gone
            return self._failed(f"{type(err).__name__}: {err}")
        self._missing = False
        ended = {name: state for name, state in self.gone.items() if state in FOR_GOOD}
        gone = ended | {asked[id]: state for id, state in found.items()}
        if gone != self.gone:
            self.gone = gone
            self._changed()
        return True

    def _failed(self, why: str) -> bool:
        log.warning("cannot tell which instances run", deployment_id=self._deployment_id, why=why)
        return False
