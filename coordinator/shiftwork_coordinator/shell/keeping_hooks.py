"""The lifecycle hooks of deployment groups: put where they are wanted, put back where they vanished, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.model.launches import ScalingHook
from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.model.settings import Aws
from shiftwork_coordinator.ports import ScalingHooks
from shiftwork_coordinator.store import Delete, Put, Store

log = structlog.get_logger()


class HookKeeper:
    """Looks whenever settings change, and whenever a deployment of the group begins or ends: somebody may have taken a
    hook away meanwhile, and another Auto Scaling group may stand. `problems` are by deployment group, for people."""

    def __init__(self, store: Store, epoch: Callable[[], int], driver: Callable[[Aws], ScalingHooks]) -> None:
        self._store, self._epoch, self._driver = store, epoch, driver
        self._seen: dict[str, object] = {}
        self.problems: dict[str, str] = {}

    async def keep(self, group: Group, names: Sequence[str], active: str) -> None:
        """On these Auto Scaling groups, and on no others."""
        looked = (tuple(names), group.settings.aws, group.settings.autoscaling, active)
        if self._seen.get(group.id) == looked:
            return
        hooks = wanted_hooks(group, names)
        known = [hook for hook in await self._store.scaling_hooks() if hook.group_id == group.id]
        left = [hook for hook in known if hook not in hooks and not await self._take_away(hook)]
        # One that cannot be taken away elsewhere keeps no other from being put, but is not forgotten for it.
        free = [hook for hook in hooks if _place(hook) not in map(_place, left)]
        if await self._put_all(group, free, known) and not left:
            self._seen[group.id] = looked

    async def clear(self, wanted: Iterable[str]) -> None:
        """Takes the hooks of all deployment groups away but of these, by their ids."""
        kept = set(wanted)
        for hook in await self._store.scaling_hooks():
            if hook.group_id not in kept:
                self._seen.pop(hook.group_id, None)
                await self._take_away(hook)

    async def _put_all(self, group: Group, hooks: Sequence[ScalingHook], known: Sequence[ScalingHook]) -> bool:
        """Whether they all stand. What is to be put is noted first, so that it is taken away in the end in any case."""
        if new := [hook for hook in hooks if hook not in known]:
            await self._store.write(*map(Put, new), epoch=self._epoch())
        try:
            for hook in hooks:
                if await self._driver(hook.aws).put(hook, group.settings.autoscaling):
                    log.info("lifecycle hook put", hook=hook.name, scaling_group=hook.scaling_group)
        except ShiftworkError as err:
            self.problems[group.id] = err.message
            log.warning("cannot put a lifecycle hook: what is launched gets no revision", why=err.message)
            return False
        self.problems.pop(group.id, None)
        return True

    async def _take_away(self, hook: ScalingHook) -> bool:
        try:
            await self._driver(hook.aws).delete(hook)
        except ShiftworkError as err:
            log.warning("cannot take a lifecycle hook away", hook=hook.name, why=err.message)
            return False
        await self._store.write(Delete(hook), epoch=self._epoch())
        return True


def _place(hook: ScalingHook) -> tuple[str, bool]:
    """By which it is remembered: one that moves to another account is noted anew when it is gone from the first."""
    return hook.scaling_group, hook.leaving


def wanted_hooks(group: Group, names: Sequence[str]) -> list[ScalingHook]:
    settings = group.settings.autoscaling
    ways = [leaving for leaving, on in ((False, settings.launch_hook), (True, settings.termination_hook)) if on]
    return [ScalingHook(group.id, name, leaving, group.settings.aws) for name in names for leaving in ways]
