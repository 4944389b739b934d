"""Tells the topics of a group's triggers what was committed. A message may get lost, and stops no deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.notify.messages import Notice
from shiftwork_coordinator.ports import Notifier
from shiftwork_coordinator.shell.observe import CALL_LIMIT

log = structlog.get_logger()


async def send(notifier: Notifier, notices: Sequence[Notice]) -> None:
    """One after the other, so that each topic hears them in order."""
    for notice in notices:
        if why := await _failed(notifier, notice):
            log.warning("a topic was not told", topic=notice.topic, what=notice.subject, why=why)


async def _failed(notifier: Notifier, notice: Notice) -> str:
    try:
        async with asyncio.timeout(CALL_LIMIT):
            await notifier.publish(notice.topic, notice.subject, notice.message)
    except TimeoutError:
        return f"no answer within {CALL_LIMIT:g} s"
    except ShiftworkError as err:
        return err.message
    except Exception as err:  # noqa: BLE001  the edge of a driver call
        return f"{type(err).__name__}: {err}"
    return ""
