"""CloudWatch alarms, metric and composite, by DescribeAlarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.aws.clients import call
from shiftwork_coordinator.model.settings import Alarms
from shiftwork_coordinator.ports import AlarmReading

KINDS = ["MetricAlarm", "CompositeAlarm"]
"""Composite alarms are left out of the answer unless they are asked for."""


class CloudWatch:
    """One call for all of a group's alarms: AWS takes up to 100 names, a group has at most 10."""

    def __init__(self, settings: Alarms) -> None:
        self._settings = settings

    async def states(self, names: Sequence[str]) -> Mapping[str, AlarmReading]:
        """A reading for every name. Never raises."""
        try:
            answer = await call(
                "cloudwatch", "describe_alarms", self._settings, AlarmNames=list(names), AlarmTypes=KINDS
            )
        except ShiftworkError as err:
            return {name: AlarmReading("UNREADABLE", err.message) for name in names}
        rows = [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]
        found = {row["AlarmName"]: _reading(row) for row in rows}
        missing = AlarmReading("UNREADABLE", "CloudWatch has no alarm of that name; check its name, region and account")
        return {name: found.get(name, missing) for name in names}

    async def close(self) -> None:
        """Nothing to close: clients are shared."""


def _reading(row: Mapping[str, Any]) -> AlarmReading:
    changed = row.get("StateTransitionedTimestamp") or row.get("StateUpdatedTimestamp")
    state = row.get("StateValue", "")
    if state not in ("OK", "ALARM", "INSUFFICIENT_DATA"):
        return AlarmReading("UNREADABLE", f"CloudWatch calls it {state!r}")
    return AlarmReading(state, row.get("StateReason", ""), changed.timestamp() if changed else None)
