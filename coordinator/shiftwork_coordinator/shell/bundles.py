"""Deployments that were created together: what each sees of the others, and that they decide one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

from shiftwork_coordinator.engine.together import companion
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.snapshot import Companion
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.shell.run import Run
from shiftwork_coordinator.store import Store


class Bundles:
    """Remembers how companions ended, while others of theirs are active."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._active: dict[str, set[str]] = {}
        self._over: dict[str, Companion] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def meet(self, deployment: Deployment, runs: Mapping[str, Run]) -> None:
        """Looks up the companions that have ended already, before a restart or just now. From here on what becomes of
        them is remembered until this one has ended, too."""
        if deployment.together:
            self._active.setdefault(_key(deployment), set()).add(deployment.id)
        for id in deployment.together:
            row = None if id in runs else await self._store.deployment(id)
            if row is not None and row.status in ENDED:
                self._over[id] = companion(row)

    def companions(self, deployment: Deployment, runs: Mapping[str, Run]) -> tuple[Companion, ...]:
        return tuple(self._seen(id, runs) for id in deployment.together)

    def _seen(self, id: str, runs: Mapping[str, Run]) -> Companion:
        if id in runs:
            return companion(runs[id].image.deployment)
        return self._over.get(id) or Companion(id, "under way")  # stored a moment ago and taken up in the next

    def one_at_a_time(self, deployment: Deployment) -> AbstractAsyncContextManager[None]:
        if not deployment.together:
            return nullcontext()
        return self._locks.setdefault(_key(deployment), asyncio.Lock())

    def ended(self, deployment: Deployment) -> None:
        if not deployment.together:
            return
        self._over[deployment.id] = companion(deployment)
        active = self._active[_key(deployment)]
        active.discard(deployment.id)
        if not active:
            for id in (deployment.id, *deployment.together):
                self._over.pop(id, None)
            self._active.pop(_key(deployment))
            self._locks.pop(_key(deployment), None)


def _key(deployment: Deployment) -> str:
    return min((deployment.id, *deployment.together))
