"""What a person sees of a deployment in which not every target is an instance that gets the revision."""

from shiftwork_coordinator.cli.views import Agent, Deployment, Resource, Target
from shiftwork_coordinator.cli.words import presence

VIEW = Deployment(
    "d-1",
    "InProgress",
    targets=(
        Target("web-1", role="original"),
        Target("web-2", role="replacement"),
        Target("autoscaling:web", role="fleet", arranged="provisioned"),
    ),
)


def test_only_those_that_get_the_revision_count() -> None:
    assert VIEW.size == 1


def test_the_side_of_an_instance_stands_beside_its_name() -> None:
    assert [target.shown for target in VIEW.targets] == [
        "web-1 (original)",
        "web-2 (replacement)",
        "autoscaling:web",
    ]


def test_a_group_is_held_and_let_go_in_place_and_replaced_in_blue_green() -> None:
    assert [target.stands for target in VIEW.targets] == ["", "", "held"]
    replaced = Target("autoscaling:web", role="fleet", arranged="retired", resource=Resource("web-2"))
    assert replaced.stands == "retired"


def test_what_has_no_agent_is_not_said_to_be_away() -> None:
    assert presence(Agent(), 0.0) == ""
