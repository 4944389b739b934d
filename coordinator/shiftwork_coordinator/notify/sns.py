"""Topics of Amazon SNS."""

from __future__ import annotations

from shiftwork_coordinator.aws.clients import call
from shiftwork_coordinator.model.settings import Aws


class Sns:
    """The topic's own region is asked, whatever region the group is in."""

    def __init__(self, at: Aws) -> None:
        self._role_arn = at.role_arn

    async def publish(self, topic: str, subject: str, message: str) -> None:
        region = topic.split(":")[3]
        await call("sns", "publish", Aws(region, self._role_arn), TopicArn=topic, Subject=subject, Message=message)
