"""What a deployment that is under way means for the Auto Scaling groups that launch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Group, Target
from shiftwork_coordinator.model.status import DECIDED, ENDED
from shiftwork_coordinator.ports import Member
from shiftwork_coordinator.scaling_groups import asked_for, standing
from shiftwork_coordinator.shell.image import Image

TAKEN_OVER = frozenset({Arrangement.PROMOTED, Arrangement.RETIRED})


class Driven(Protocol):
    """An active deployment."""

    image: Image


def run_of(group: Group, runs: Iterable[Driven]) -> Driven | None:
    """The group's deployment that is under way."""
    for run in runs:
        row = run.image.deployment
        if row.group_id == group.id and row.started_at is not None and row.status not in ENDED and not row.apart:
            return run
    return None


def filled(run: Driven | None) -> frozenset[str]:
    """The Auto Scaling groups that it fills with replacements, which it sees to itself."""
    return frozenset(name for name, target in _replacements(run).items() if target.arranged not in TAKEN_OVER)


def promoted(run: Driven | None) -> frozenset[str]:
    """Those that have taken over while the originals are kept: they launch by themselves."""
    return frozenset(name for name, target in _replacements(run).items() if target.arranged in TAKEN_OVER)


def replaced(run: Driven | None) -> frozenset[str]:
    """The Auto Scaling groups whose place others take."""
    if run is None or not _replacements(run):
        return frozenset()
    return frozenset(run.image.deployment.settings.instances.autoscaling)


def taken(run: Driven | None) -> frozenset[str]:
    """EC2's ids of the instances that it may still change."""
    targets = run.image.targets.values() if run else ()
    return frozenset(target.cloud_id for target in targets if target.cloud_id and target.status not in DECIDED)


def names_of(group: Group, run: Driven | None) -> tuple[str, ...]:
    """All Auto Scaling groups that may launch for the deployment group just now."""
    return tuple(dict.fromkeys((*asked_for(standing(group)).autoscaling, *sorted(promoted(run)))))


def hooked(group: Group, run: Driven | None, members: Sequence[Member]) -> list[str]:
    """Those that are to have hooks: of two that swap, the one that has instances which stay."""
    empty_ones = filled(run)
    theirs = [name for name in names_of(group, run) if name not in empty_ones]
    serving = {member.group for member in members if not member.lifecycle.startswith("Terminating")} - empty_ones
    return [name for name in theirs if name in serving] if group.settings.blue_green and serving else theirs


def as_promoted(group: Group, run: Driven | None) -> Group:
    """With what is good for what is launched now: where a replacement has taken over, that is what it was made for."""
    if run is None or not promoted(run):
        return group
    row = run.image.deployment
    return replace(
        group, last_good=row.revision, last_good_parameters=row.parameters, last_good_appspec=row.appspec
    )  # fmt: skip


def _replacements(run: Driven | None) -> Mapping[str, Target]:
    fleet = [target for target in run.image.targets.values() if target.role == "fleet"] if run else []
    return {name: target for target in fleet if (name := getattr(target.resource, "replacement", ""))}
