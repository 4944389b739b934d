"""What can be found wrong with a group's selectors of EC2 without asking EC2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.fleets.tags import ANY
from shiftwork_coordinator.model.rows import EC2_ID
from shiftwork_coordinator.model.settings import Instances

MOST_GROUPS, MOST_SETS, MOST_IN_A_SET = 10, 3, 10
"""CodeDeploy's limits: Auto Scaling groups of a group, tag sets, tags in one set."""
MOST_VALUES = 200
"""EC2's limit for the values in one request's filters."""


def check(name: str, wanted: Instances) -> None:
    """Raises InvalidRequest, with CodeDeploy's code where it has one, for what never can be resolved."""
    for id in wanted.ids:
        if not EC2_ID.fullmatch(id):
            raise _refused(name, f"`ids` has {id[:80]!r}, which is no instance's id such as i-0123456789abcdef0")
    _check_groups(name, wanted.autoscaling)
    _check_tags(name, wanted)


def _check_groups(name: str, groups: Sequence[str]) -> None:
    code = "InvalidAutoScalingGroupException"
    if len(groups) > MOST_GROUPS:
        raise _refused(name, f"`autoscaling` has {len(groups)} groups, at most {MOST_GROUPS}; split the group", code)
    wrong = next((g for g in groups if not 1 <= len(g) <= 255 or groups.count(g) > 1), None)
    if wrong is not None:
        raise _refused(
            name, f"`autoscaling` has {wrong[:80]!r}; a name has 1 to 255 characters and stands there once", code
        )


def _check_tags(name: str, wanted: Instances) -> None:
    if wanted.ec2_tags and wanted.ec2_tag_sets:
        raise _refused(
            name,
            "give `ec2_tags` or `ec2_tag_sets`, not both; each entry of `ec2_tags` may be a set of its own",
            "InvalidEC2TagCombinationException",
        )
    if len(wanted.ec2_tag_sets) > MOST_SETS:
        raise _refused(
            name,
            f"`ec2_tag_sets` has {len(wanted.ec2_tag_sets)} sets, at most {MOST_SETS}",
            "TagSetListLimitExceededException",
        )
    for each in wanted.ec2_tag_sets:
        _check_entries(name, "a set of `ec2_tag_sets`", each, MOST_IN_A_SET)
    if wanted.ec2_tags:
        _check_entries(name, "`ec2_tags`", wanted.ec2_tags, MOST_VALUES)


def _check_entries(name: str, what: str, tags: Mapping[str, Sequence[str]], most: int) -> None:
    code = "InvalidEC2TagException"
    count = sum(map(len, tags.values()))
    if count > most:
        raise _refused(name, f"{what} has {count} values, at most {most}", code)
    empty = next((key for key, values in tags.items() if not values), None)
    if empty is not None or not tags:
        about = f"no value for {empty[:80]!r}" if empty is not None else "nothing in it"
        raise _refused(name, f'{what} has {about} and so matches nothing; give ["{ANY}"] for any value', code)
    if any(not 1 <= len(key) <= 128 for key in tags):
        raise _refused(name, f'{what} has a key that is not 1 to 128 characters long; "{ANY}" is any key', code)
    if ANY in tags.get(ANY, ()):
        raise _refused(name, f'{what} has any value of any key ("{ANY}"), which is every instance there is', code)


def _refused(name: str, problem: str, code: str = "InvalidRequest") -> InvalidRequest:
    return InvalidRequest(f"cannot use the group {name}: {problem}", code=code)
