"""Performers: do what the engine wants of the balancers, many targets in one call, and record when it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from shiftwork_contract.errors import ShiftworkError, Unavailable
from shiftwork_coordinator.engine.actions import Action, Deregister, Register
from shiftwork_coordinator.model.rows import Asked
from shiftwork_coordinator.ports import Clock, LoadBalancer, NotTaken, Server
from shiftwork_coordinator.shell.observe import CALL_LIMIT, Balancer

log = structlog.get_logger()
BACKOFF = (0.5, 1.0, 2.0, 4.0)
"""Seconds until a failed call is tried again; the last one repeats."""
TOGETHER = 1.0
"""Seconds for which whoever wants the same waits for a call that is under way, to be in the next one together."""


class Performer:
    """`record(rows)` stores what was asked; it must have committed when it returns."""

    def __init__(
        self,
        deployment_id: str,
        balancers: Sequence[Balancer],
        servers: Mapping[str, Server],
        clock: Clock,
        allowed: Callable[[float], bool],
        record: Callable[[list[Asked]], Awaitable[None]],
    ) -> None:
        self._deployment_id, self._balancers, self._servers = deployment_id, balancers, servers
        self._clock, self._allowed, self._record = clock, allowed, record
        self._in_flight: set[str] = set()
        self._under_way: dict[str, float] = {}
        self._tries: dict[Register | Deregister, int] = {}

    def start(self, actions: Sequence[Action], group: asyncio.TaskGroup) -> None:
        """Begins what can begin, one task for all that ask the same verb. An instance that something is under way for
        is left alone: a late deregister must not overtake a register. So is one that wants what others are being asked
        for. The next tick wants it again."""
        ours = [action for action in actions if isinstance(action, Register | Deregister)]
        wanted = [action for action in ours if action.instance not in self._in_flight]
        if not wanted or not self._allowed(CALL_LIMIT):
            return
        for verb in ("deregister", "register"):
            together = [action for action in wanted if action.verb == verb]
            if together and self._clock.monotonic() - self._under_way.get(verb, -TOGETHER) >= TOGETHER:
                self._in_flight.update(action.instance for action in together)
                self._under_way[verb] = self._clock.monotonic()
                group.create_task(self._perform(verb, together))

    async def _perform(self, verb: str, actions: Sequence[Register | Deregister]) -> None:
        servers = [self._servers[action.instance] for action in actions]
        try:
            problems = await self._ask_all(verb, servers)
            await self._record([self._row(action, _of(action.instance, problems)) for action in actions])
        except Unavailable as err:  # not remembered, so it is wanted again at the next tick; it may be repeated
            log.warning("what was asked of the balancers could not be stored", verb=verb, why=err.message)
        finally:
            self._in_flight.difference_update(action.instance for action in actions)
            self._under_way.pop(verb, None)

    async def _ask_all(self, verb: str, servers: list[Server]) -> list[ShiftworkError | None]:
        """Asks every balancer, also after one has failed."""
        return [await _tried(balancer, verb, servers) for balancer in self._balancers]

    def _row(self, action: Register | Deregister, problem: ShiftworkError | None) -> Asked:
        now = self._clock.now()
        tries = self._tries[action] = 0 if problem is None else self._tries.get(action, 0) + 1
        verb = action.verb
        if problem is None:
            return Asked(self._deployment_id, action.instance, verb, asked_at=now, tries=1)
        pause = BACKOFF[min(tries, len(BACKOFF)) - 1]
        return Asked(
            self._deployment_id,
            action.instance,
            verb,
            tries=tries,
            error=problem.message,
            error_code=problem.code,
            next_try=now + pause,
        )


def _of(instance: str, problems: Sequence[ShiftworkError | None]) -> ShiftworkError | None:
    """The first problem that is the instance's. One that cannot be registered keeps no other out of traffic."""
    for problem in problems:
        if isinstance(problem, NotTaken):
            if instance in problem.why:
                return NotTaken({instance: problem.why[instance]}, code=problem.code)
        elif problem is not None:
            return problem
    return None


async def _tried(balancer: Balancer, verb: str, servers: list[Server]) -> ShiftworkError | None:
    try:
        async with asyncio.timeout(CALL_LIMIT):
            await _ask(balancer.driver, verb, servers)
    except TimeoutError:
        return ShiftworkError(f"{balancer.name} did not answer within {CALL_LIMIT:g} s", code="TIMEOUT")
    except ShiftworkError as err:
        return err
    except Exception as err:  # noqa: BLE001  the edge of a driver call: a driver's bug is one balancer's trouble
        return ShiftworkError(f"{balancer.name}: {type(err).__name__}: {err}")
    return None


async def _ask(driver: LoadBalancer, verb: str, servers: list[Server]) -> None:
    if verb == "register":
        await driver.register(servers)
    else:
        await driver.deregister(servers)


async def problem_of(work: Awaitable[None]) -> ShiftworkError | None:
    """What became of one call outward, within its limit; None when it was done."""
    try:
        async with asyncio.timeout(CALL_LIMIT):
            await work
    except TimeoutError:
        return ShiftworkError(f"no answer within {CALL_LIMIT:g} s", code="TIMEOUT")
    except ShiftworkError as err:
        return err
    except Exception as err:  # noqa: BLE001  the edge of a driver call
        return ShiftworkError(f"{type(err).__name__}: {err}")
    return None
