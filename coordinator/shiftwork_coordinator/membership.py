"""Which tags put an instance into a deployment group. Pure, but for looking the group up."""

from __future__ import annotations

from collections.abc import Mapping

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_coordinator.creation import matching
from shiftwork_coordinator.model.rows import Group, Instance
from shiftwork_coordinator.model.settings import Instances
from shiftwork_coordinator.store import Store


async def group_named(store: Store, name: str) -> Group:
    """The group written APPLICATION/GROUP. Raises InvalidRequest when there is none."""
    application, _, group = name.partition("/")
    found = await store.group(application, group)
    if found is None:
        raise InvalidRequest(
            f"cannot find the deployment group {name[:200]!r}: write APPLICATION/GROUP of one that there is",
            code="DeploymentGroupDoesNotExistException",
        )
    return found


def tags_into(group: Group, tags: Mapping[str, str], name: str) -> dict[str, str]:
    """`tags` and what the group's selector wants besides; of two, the first that they fit. `name` is empty for
    instances that are not named yet.

    Raises InvalidRequest where that leaves a choice, or an instance with these would not be in the group.
    """
    refused: InvalidRequest | None = None
    for wanted in group.settings.selectors:
        try:
            return _into(f"{group.application}/{group.name}", wanted, tags, name)
        except InvalidRequest as err:
            refused = refused or err
    assert refused is not None
    raise refused


def _into(full: str, wanted: Instances, tags: Mapping[str, str], name: str) -> dict[str, str]:
    if name in wanted.names or not wanted.tags:
        if name and name not in wanted.names:
            raise InvalidRequest(
                f"cannot bind a token for {name} to {full}: the group has only the instances"
                f" {', '.join(wanted.names)}; add the name there, or tags"
            )
        return dict(tags)
    open_keys = {key: values for key, values in wanted.tags.items() if key not in tags and len(values) != 1}
    if open_keys:
        choice = ", ".join(f"{key} ({' or '.join(values)})" for key, values in open_keys.items())
        raise InvalidRequest(f"cannot bind a token to {full} without a choice of {choice}; give --tag KEY=VALUE")
    whole = {key: values[0] for key, values in wanted.tags.items() if key not in tags} | dict(tags)
    wrong = [f"{key}={whole[key]}" for key, values in wanted.tags.items() if whole[key] not in values]
    if wrong:
        raise InvalidRequest(f"cannot bind a token to {full} with {', '.join(wrong)}: the group does not select that")
    return whole


def check_lands(group: Group, name: str, tags: Mapping[str, str]) -> None:
    """Raises Conflict when an instance with this name and these tags would not be in the group, as it is now."""
    selectors = group.settings.selectors
    if not any(matching([Instance(name, tags=dict(tags))], wanted) for wanted in selectors):
        selects = [f"{key}={'|'.join(values)}" for wanted in selectors for key, values in wanted.tags.items()]
        names = [named for wanted in selectors for named in wanted.names]
        raise Conflict(
            f"cannot join as {name!r}: the token is for the group {group.application}/{group.name}, which has"
            f" {', '.join([*selects, *names])}; choose a name of these, or make another token"
        )
