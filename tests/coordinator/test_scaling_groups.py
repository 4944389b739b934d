"""Which Auto Scaling groups stand, and which take another's place."""

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Group, Target
from shiftwork_coordinator.model.settings import BlueGreen, GroupSettings, Instances
from shiftwork_coordinator.scaling_groups import asked_for, oriented, standing, taken_over

SWAP = GroupSettings(Instances(autoscaling=("a",)), blue_green=BlueGreen("swap", "b"))
COPY = GroupSettings(Instances(autoscaling=("a",)), blue_green=BlueGreen())


def succeeded(group: Group, original: str, replacement: str) -> Group:
    made = ScalingGroup(f"autoscaling:{original}", original, "d-1", replacement, True)
    return replace(group, copies=taken_over(group, [fleet(made)]))


def fleet(made: ScalingGroup, arranged: Arrangement = Arrangement.RETIRED) -> Target:
    return Target("d-1", made.name, role="fleet", resource=made, arranged=arranged)


def test_a_copy_stands_for_the_group_of_the_settings_however_often_it_is_copied() -> None:
    group = Group("g", "web", "live", COPY)
    assert standing(group).instances.autoscaling == ("a",)
    group = succeeded(succeeded(group, "a", "copy-1"), "copy-1", "copy-2")
    assert (group.copies, standing(group).instances.autoscaling) == ({"a": "copy-2"}, ("copy-2",))


def test_another_name_in_the_settings_is_taken_as_it_is() -> None:
    group = succeeded(Group("g", "web", "live", COPY), "a", "copy-1")
    renamed = replace(group, settings=replace(COPY, instances=Instances(autoscaling=("c",))))
    assert standing(renamed).instances.autoscaling == ("c",)


def test_groups_that_swap_are_not_copies() -> None:
    group = Group("g", "web", "live", SWAP)
    one = ScalingGroup("autoscaling:a", "a", "d-1", "b")
    assert taken_over(group, [fleet(one)]) == {}


@pytest.mark.parametrize("arranged", [one for one in Arrangement if one is not Arrangement.RETIRED])
def test_a_copy_stands_from_when_its_original_is_to_go(arranged) -> None:
    group = Group("g", "web", "live", COPY)
    assert taken_over(group, [fleet(ScalingGroup("autoscaling:a", "a", "d-1", "copy-1", True), arranged)]) == {}


@pytest.mark.parametrize(("serving", "original", "standby"), [({"a"}, "a", "b"), ({"b"}, "b", "a")])
def test_of_two_that_swap_the_one_with_instances_is_the_original(serving, original, standby) -> None:
    assert asked_for(SWAP).autoscaling == ("a", "b")
    found = oriented(SWAP, serving)
    assert (found.instances.autoscaling, found.blue_green) == ((original,), BlueGreen("swap", standby))


@pytest.mark.parametrize(("serving", "told"), [(set(), "neither has"), ({"a", "b"}, "both have")])
def test_both_or_neither_is_refused(serving, told) -> None:
    with pytest.raises(InvalidRequest, match=f"a and b is the original: {told} instances"):
        oriented(SWAP, serving)
