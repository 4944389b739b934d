"""Tells the topics of a group's triggers what was committed. A message may get lost, and stops no deployment."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from shiftwork_coordinator.notify.messages import Notice
from shiftwork_coordinator.ports import Notifier
from shiftwork_coordinator.shell.perform import problem_of

log = structlog.get_logger()


async def send(notifier: Notifier, notices: Sequence[Notice]) -> None:
    """One after the other, so that each topic hears them in order."""
    for notice in notices:
        problem = await problem_of(notifier.publish(notice.topic, notice.subject, notice.message))
        if problem is not None:
            log.warning("a topic was not told", topic=notice.topic, what=notice.subject, why=problem.message)
