"""Which selectors of EC2 are refused, and how EC2's members become joined instances."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import HostFacts
from shiftwork_coordinator.fleets.choosing import Chosen, tied
from shiftwork_coordinator.fleets.selectors import check
from shiftwork_coordinator.fleets.tags import narrowing
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.model.settings import Instances
from shiftwork_coordinator.ports import Member

A, B, C = (f"i-{digit * 17}" for digit in "abc")


@pytest.mark.parametrize(
    "wanted",
    [
        Instances(ids=(A, "i-0123abcd"), autoscaling=("web",), ec2_tags={"*": ["a"]}),
        Instances(autoscaling=tuple(f"web-{n}" for n in range(10))),
        Instances(ec2_tag_sets=({"A": [str(n) for n in range(10)]}, {"B": ["*"]}, {"C": [""]})),
    ],
)
def test_what_can_be_resolved_passes(wanted: Instances) -> None:
    check("web/production", wanted)


@pytest.mark.parametrize(
    ("wanted", "code", "told"),
    [
        (Instances(ids=("web-1",)), "InvalidRequest", "'web-1'"),
        (Instances(ids=("i-0123ABCD",)), "InvalidRequest", "'i-0123ABCD'"),
        (
            Instances(autoscaling=tuple(map(str, range(11)))),
            "InvalidAutoScalingGroupException",
            "11 groups, at most 10",
        ),
        (Instances(autoscaling=("web", "web")), "InvalidAutoScalingGroupException", "'web'"),
        (Instances(autoscaling=("",)), "InvalidAutoScalingGroupException", "1 to 255"),
        (
            Instances(ec2_tags={"A": ["a"]}, ec2_tag_sets=({"A": ["a"]},)),
            "InvalidEC2TagCombinationException",
            "not both",
        ),
        (Instances(ec2_tag_sets=({"A": ["a"]},) * 4), "TagSetListLimitExceededException", "4 sets, at most 3"),
        (Instances(ec2_tag_sets=({"A": list("abcdef"), "B": list("abcde")},)), "InvalidEC2TagException", "11 values"),
        (Instances(ec2_tag_sets=({"A": ["a"]}, {})), "InvalidEC2TagException", "nothing in it"),
        (Instances(ec2_tags={"A": [str(n) for n in range(201)]}), "InvalidEC2TagException", "201 values, at most 200"),
        (Instances(ec2_tags={"A": []}), "InvalidEC2TagException", "no value for 'A'"),
        (Instances(ec2_tags={"": ["a"]}), "InvalidEC2TagException", "1 to 128"),
        (Instances(ec2_tags={"*": ["a", "*"]}), "InvalidEC2TagException", "every instance there is"),
    ],
)
def test_what_never_can_is_refused_by_name(wanted: Instances, code: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot use the group web/production: ") as refused:
        check("web/production", wanted)
    assert refused.value.code == code and told in refused.value.message


def test_ec2_is_asked_for_no_more_than_can_match() -> None:
    assert narrowing(Instances(ec2_tags={"A": ["a", "b*"], "*": ["c"]})) == [("tag:A", ("a", "b*"))]
    sets = ({"A": ["a"]}, {"B": ["b"], "C*": ["c"]}, {"A": ["z"]})
    assert narrowing(Instances(ec2_tag_sets=sets)) == [("tag:A", ("a",)), ("tag-key", ("B", "C\\*"))]
    assert narrowing(Instances(ec2_tag_sets=({"A": ["a"], "*": ["b"]},))) == []


def joined(name: str, id: str = "", **fields: object) -> Instance:
    return replace(Instance(name, host=HostFacts(instance_id=id)), **fields)


def tie(members: Iterable[Member], *known: Instance) -> Chosen:
    return tied("web/production", members, known)


def test_a_member_is_tied_by_what_its_agent_tells_or_by_its_name() -> None:
    told, named = joined("web-1", A), joined(B, C)
    found = tie([Member(A, "running", "z", "web", "InService"), Member(B, "running")], joined("web-9"), told, named)
    assert list(found.instances) == [told, named]
    assert found.members["web-1"].group == "web" and found.members.keys() == {"web-1", B}


@pytest.mark.parametrize(
    ("state", "lifecycle", "fate"),
    [
        ("running", "", "taken"),
        ("running", "InService", "taken"),
        ("running", "Standby", "taken"),
        ("running", "Pending:Wait", "left"),
        ("running", "Terminating:Wait", "left"),
        ("pending", "", "left"),
        ("shutting-down", "", "left"),
        ("terminated", "", "left"),
        ("stopping", "", "stopped"),
        ("stopped", "", "stopped"),
        ("stopped", "Terminating", "left"),
    ],
)
def test_what_comes_or_goes_is_left_and_what_is_stopped_counts(state: str, lifecycle: str, fate: str) -> None:
    found = tie([Member(A, state, "", "web", lifecycle)], joined("web-1", A))
    assert [i.name for i in found.instances] == (["web-1"] if fate == "taken" else [])
    assert list(found.stopped) == (["web-1"] if fate == "stopped" else [])
    assert [m.id for m in found.left] == ([A] if fate == "left" else [])


def test_a_stopped_member_needs_no_agent_and_one_that_goes_no_tie() -> None:
    found = tie([Member(A, "stopped"), Member(B, "terminated")], joined("web-1", B), joined("web-2", B))
    assert list(found.stopped) == [A] and not found.instances


def test_members_without_an_agent_are_named_with_when_they_were_last_seen() -> None:
    gone = joined("web-2", B, revoked_at=5.0, last_seen=0.5), joined("web-3", C, revoked_at=5.0)
    with pytest.raises(InvalidRequest, match="3 of its running instances have no agent here") as refused:
        tie([Member(id, "running") for id in (A, B, C)], *gone)
    assert refused.value.code == "AGENT_ISSUE"
    assert f"{A} (none ever joined)" in refused.value.message
    assert f"{B} (web-2 was revoked, last seen 1970-01-01 00:00:00 UTC)" in refused.value.message
    assert f"{C} (web-3 was revoked, last seen never)" in refused.value.message
    with pytest.raises(InvalidRequest, match="and 5 more"):
        tie([Member(f"i-{n:017x}", "running") for n in range(25)])


def test_two_that_claim_one_id_are_both_named_and_neither_is_chosen() -> None:
    claims = joined("web-1", A), joined("web-2", A)
    with pytest.raises(InvalidRequest, match=f"web-1 and web-2 both say that they are {A}.*shiftwork revoke"):
        tie([Member(A, "running")], *claims)
    with pytest.raises(InvalidRequest, match=f"{A} and web-2 both"):
        tie([Member(A, "running")], joined(A), claims[1])
    assert tie([Member(A, "running")], claims[0], replace(claims[1], revoked_at=1.0)).instances[0].name == "web-1"
    assert not tie([Member(B, "stopped")], *claims).instances, "it is nobody's business which of them is A"
