"""Changes of many instances in few calls, where AWS refuses a whole call for one instance that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.ports import NotTaken, Server

PER_CALL = 200
"""Instances in one call; AWS names no limit, and takes so many."""
INVALID, INVALID_INSTANCE = "ELASTIC_LOAD_BALANCING_INVALID", "ELB_INVALID_INSTANCE"
"""CodeDeploy's codes for load balancers that cannot be deployed behind, and for instances that cannot be in them."""
NO_ID = "it has no EC2 instance id; its agent tells it where the instance metadata service can be reached"

Tell = Callable[[Sequence[Server]], Awaitable[object]]
Alone = Callable[[Server, InvalidRequest], ShiftworkError | None]


async def change(servers: Sequence[Server], tell: Tell, wrong: str, alone: Alone) -> ShiftworkError | None:
    """Tells all of them; what went wrong, or None. `wrong` is AWS's code when one of a call cannot be: then the others
    are told without it, and `alone` says whether that one is an error."""
    parts = [servers[start : start + PER_CALL] for start in range(0, len(servers), PER_CALL)]
    return what_counts(await asyncio.gather(*(_told(part, tell, wrong, alone) for part in parts)))


def what_counts(answers: Iterable[ShiftworkError | None]) -> ShiftworkError | None:
    """Of several errors the first that concerns all; else every server that was not taken, with the first reason."""
    errors = [error for error in answers if error is not None]
    if general := [error for error in errors if not isinstance(error, NotTaken)]:
        return general[0]
    why = {name: text for error in reversed(errors) if isinstance(error, NotTaken) for name, text in error.why.items()}
    return NotTaken(why, code=errors[0].code) if errors else None


async def _told(servers: Sequence[Server], tell: Tell, wrong: str, alone: Alone) -> ShiftworkError | None:
    try:
        await tell(servers)
    except InvalidRequest as err:
        if err.code != wrong:
            return err
        if len(servers) == 1:
            return alone(servers[0], err)
        half = len(servers) // 2
        halves = (servers[:half], servers[half:])
        return what_counts(await asyncio.gather(*(_told(part, tell, wrong, alone) for part in halves)))
    except Unavailable as err:
        return err
    return None
