"""The instances of EC2 and Auto Scaling: few calls, all of them paged, and none for a single instance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.aws.clients import ATTEMPTS, call
from shiftwork_coordinator.aws.clients import READ_LIMIT as CHANGE_LIMIT
from shiftwork_coordinator.fleets.tags import Filter, literal, matches, narrowing
from shiftwork_coordinator.model.settings import Aws, Instances
from shiftwork_coordinator.ports import Member

PAGE = 1000
IN_A_FILTER = 200
"""Values that EC2 takes in one request's filters."""
READ_LIMIT = 20.0
"""Seconds for a page, which may be megabytes."""
GROUP_TAG = "aws:autoscaling:groupName"
THERE: Filter = ("instance-state-name", ("pending", "running", "stopping", "stopped"))
LOST: Filter = ("instance-state-name", ("stopping", "stopped", "shutting-down", "terminated"))


class Ec2:
    """One account and region, as the group's role sees it."""

    def __init__(self, at: Aws) -> None:
        self._at = at

    async def members(self, wanted: Instances) -> Sequence[Member]:
        found = {row["InstanceId"]: _member(row) for row in await self._of_ids(wanted.ids)}
        if absent := [id for id in wanted.ids if id not in found]:
            raise InvalidRequest(
                f"cannot find {', '.join(absent)} in EC2{_where(self._at)}; take them out of `instances.ids`, or"
                " correct `aws.region` and `aws.role_arn`"
            )
        if wanted.ec2_tags or wanted.ec2_tag_sets:
            rows = [row async for row in self._instances(*narrowing(wanted), THERE)]
            found |= {row["InstanceId"]: _member(row) for row in rows if matches(_tags(row), wanted)}
        if wanted.autoscaling:
            found |= await self._of_groups(wanted.autoscaling)
        return list(found.values())

    async def lost(self, ids: Sequence[str], *, missing: bool = False) -> Mapping[str, str]:
        only = () if missing else (LOST,)
        rows = await self._of_ids(ids, *only)
        states = {row["InstanceId"]: row["State"]["Name"] for row in rows}
        absent = {id: "missing" for id in ids if missing and id not in states}
        return absent | {id: state for id, state in states.items() if state in LOST[1]}

    async def standing(self, groups: Sequence[str]) -> Sequence[Member]:
        """The members of these groups and their states there, those that are on their way too. EC2 is not asked."""
        found = [group async for group in self._groups(groups)] if groups else []
        each = [(group["AutoScalingGroupName"], row) for group in found for row in group.get("Instances", ())]
        return [_standing(Member(row["InstanceId"], ""), name, row) for name, row in each]

    async def terminate(self, ids: Sequence[str]) -> None:
        there = [row["InstanceId"] for row in await self._of_ids(ids, THERE)]
        for each in (there[n : n + PAGE] for n in range(0, len(there), PAGE)):
            await call("ec2", "terminate_instances", self._at, CHANGE_LIMIT, 1, InstanceIds=each)

    async def has_pool(self, group: str) -> bool:
        """Whether an Auto Scaling group keeps instances ready besides those that are its members."""
        return any(["WarmPoolConfiguration" in row async for row in self._groups([group])])

    async def _of_groups(self, names: Sequence[str]) -> dict[str, Member]:
        groups = {group["AutoScalingGroupName"]: group async for group in self._groups(names)}
        if absent := [name for name in names if name not in groups]:
            raise InvalidRequest(
                f"cannot find the Auto Scaling groups {', '.join(absent)}{_where(self._at)}; correct"
                " `instances.autoscaling`, `aws.region` or `aws.role_arn`",
                code="InvalidAutoScalingGroupException",
            )
        standing = {row["InstanceId"]: (name, row) for name, g in groups.items() for row in g.get("Instances", ())}
        if not standing:
            return {}
        of_groups = (f"tag:{GROUP_TAG}", tuple(map(literal, names)))
        rows = [row async for row in self._instances(of_groups, THERE)]
        # What was attached a moment ago may not carry the tag yet.
        rows += await self._of_ids(sorted(standing.keys() - {row["InstanceId"] for row in rows}), THERE)
        members = {row["InstanceId"]: _member(row) for row in rows if row["InstanceId"] in standing}
        return {id: _standing(member, *standing[id]) for id, member in members.items()}

    async def _groups(self, names: Sequence[str]) -> AsyncIterator[Mapping[str, Any]]:
        page: dict[str, Any] = {"AutoScalingGroupNames": list(names), "MaxRecords": 100}
        async for row in self._paged("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", page):
            yield row

    async def _of_ids(self, ids: Sequence[str], *also: Filter) -> list[Mapping[str, Any]]:
        """By a filter and not by `InstanceIds`: an id that is not there then refuses nothing."""
        each = list(dict.fromkeys(ids))
        chunks = [tuple(each[n : n + IN_A_FILTER]) for n in range(0, len(each), IN_A_FILTER)]
        return [row for chunk in chunks async for row in self._instances(("instance-id", chunk), *also)]

    async def _instances(self, *filters: Filter) -> AsyncIterator[Mapping[str, Any]]:
        wanted = [{"Name": name, "Values": list(values)} for name, values in filters]
        page: dict[str, Any] = {"Filters": wanted, "MaxResults": PAGE}
        async for reservation in self._paged("ec2", "describe_instances", "Reservations", page):
            for row in reservation["Instances"]:
                yield row

    async def _paged(self, service: str, operation: str, key: str, page: dict[str, Any]) -> AsyncIterator[Any]:
        more: dict[str, Any] = {}
        while True:
            answer = await call(service, operation, self._at, READ_LIMIT, ATTEMPTS, **page, **more)
            for row in answer.get(key, ()):
                yield row
            if not answer.get("NextToken"):
                return
            more = {"NextToken": answer["NextToken"]}


def _member(row: Mapping[str, Any]) -> Member:
    zone = row.get("Placement", {}).get("AvailabilityZone", "")
    return Member(row["InstanceId"], row["State"]["Name"], zone, _tags(row).get(GROUP_TAG, ""))


def _standing(member: Member, group: str, row: Mapping[str, Any]) -> Member:
    return Member(member.id, member.state, member.zone or row.get("AvailabilityZone", ""), group, row["LifecycleState"])


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in row.get("Tags", ())}


def _where(at: Aws) -> str:
    return f" of {at.region}" if at.region else ""
