"""What a deployment's targets go through, as a table: (platform, deployment type, traffic control) -> stages.

Platforms differ in these rows and in drivers; nothing else in the engine knows which platform it serves.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from shiftwork_contract.lifecycle import THE_SEVEN, LifecycleEvent
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Deployment, Role

E = LifecycleEvent


class StageKind(StrEnum):
    """PREPARE: the agent fetches and checks, changing nothing. SCRIPTS: the agent runs events. BLOCK: out of traffic
    and proven quiet. ALLOW: back into traffic and proven healthy. SETTLE: healthy by the group's own check.
    READY: the replacement can take traffic. INVOKE: a hook function answers. SHIFT: traffic moves by weights.
    ARRANGE: original and replacement come to stand as `wanted`. HOLD: a wait that a person may end. FOLLOW: all
    instances are decided, or as far as the stage says. ENLIST: replacements come under way. GATE: the group lets on.
    """

    PREPARE = "prepare"
    SCRIPTS = "scripts"
    BLOCK = "block"
    ALLOW = "allow"
    SETTLE = "settle"
    READY = "ready"
    INVOKE = "invoke"
    SHIFT = "shift"
    ARRANGE = "arrange"
    HOLD = "hold"
    FOLLOW = "follow"
    ENLIST = "enlist"
    GATE = "gate"


class Stage(msgspec.Struct, frozen=True):
    """`role` and `upto` are for FOLLOW: whom, and to which stage of theirs; None = to their end."""

    kind: StageKind
    events: tuple[LifecycleEvent, ...] = ()
    wanted: Arrangement | None = None
    role: Role = ""
    upto: StageKind | None = None


PREPARE = Stage(StageKind.PREPARE)
SETTLE = Stage(StageKind.SETTLE)
READY = Stage(StageKind.READY)


def invoke(event: LifecycleEvent) -> Stage:
    return Stage(StageKind.INVOKE, (event,))


def arrange(wanted: Arrangement, *events: LifecycleEvent) -> Stage:
    return Stage(StageKind.ARRANGE, events, wanted)


def follow(role: Role, upto: StageKind | None = None) -> Stage:
    return Stage(StageKind.FOLLOW, role=role, upto=upto)


def scripts(*events: LifecycleEvent) -> Stage:
    return Stage(StageKind.SCRIPTS, events)


ITINERARIES: dict[tuple[str, str, bool], tuple[Stage, ...]] = {
    ("Server", "IN_PLACE", False): (PREPARE, scripts(*THE_SEVEN), SETTLE),
    ("Server", "IN_PLACE", True): (
        PREPARE,
        scripts(E.BEFORE_BLOCK_TRAFFIC),
        Stage(StageKind.BLOCK, (E.BLOCK_TRAFFIC,)),
        scripts(E.AFTER_BLOCK_TRAFFIC, *THE_SEVEN, E.BEFORE_ALLOW_TRAFFIC),
        Stage(StageKind.ALLOW, (E.ALLOW_TRAFFIC,)),
        scripts(E.AFTER_ALLOW_TRAFFIC),
    ),
    ("Server", "BLUE_GREEN", True): (
        PREPARE,
        scripts(*THE_SEVEN),
        Stage(StageKind.GATE),
        scripts(E.BEFORE_ALLOW_TRAFFIC),
        Stage(StageKind.ALLOW, (E.ALLOW_TRAFFIC,)),
        scripts(E.AFTER_ALLOW_TRAFFIC),
    ),
    ("Lambda", "BLUE_GREEN", True): (
        READY,
        invoke(E.BEFORE_ALLOW_TRAFFIC),
        Stage(StageKind.SHIFT, (E.ALLOW_TRAFFIC,)),
        invoke(E.AFTER_ALLOW_TRAFFIC),
    ),
    ("ECS", "BLUE_GREEN", True): (
        invoke(E.BEFORE_INSTALL),
        arrange(Arrangement.PROVISIONED, E.INSTALL),
        invoke(E.AFTER_INSTALL),
        arrange(Arrangement.TESTED, E.ALLOW_TEST_TRAFFIC),
        invoke(E.AFTER_ALLOW_TEST_TRAFFIC),
        Stage(StageKind.HOLD),
        invoke(E.BEFORE_ALLOW_TRAFFIC),
        Stage(StageKind.SHIFT, (E.ALLOW_TRAFFIC,)),
        arrange(Arrangement.PROMOTED),
        invoke(E.AFTER_ALLOW_TRAFFIC),
        Stage(StageKind.HOLD, wanted=Arrangement.RETIRED),
        arrange(Arrangement.RETIRED),
    ),
}

ORIGINALS: tuple[Stage, ...] = (
    Stage(StageKind.GATE),
    scripts(E.BEFORE_BLOCK_TRAFFIC),
    Stage(StageKind.BLOCK, (E.BLOCK_TRAFFIC,)),
    scripts(E.AFTER_BLOCK_TRAFFIC),
)
"""What the instances go through that others replace."""
SCALING: dict[tuple[str, bool], tuple[Stage, ...]] = {
    ("autoscaling", False): ITINERARIES["Server", "IN_PLACE", False],
    ("autoscaling", True): (
        PREPARE,
        scripts(*THE_SEVEN, E.BEFORE_ALLOW_TRAFFIC),
        Stage(StageKind.ALLOW, (E.ALLOW_TRAFFIC,)),
        scripts(E.AFTER_ALLOW_TRAFFIC),
    ),
    ("autoscalingTermination", False): (scripts(E.APPLICATION_STOP),),
    ("autoscalingTermination", True): (
        scripts(E.BEFORE_BLOCK_TRAFFIC),
        Stage(StageKind.BLOCK, (E.BLOCK_TRAFFIC,)),
        scripts(E.AFTER_BLOCK_TRAFFIC, E.APPLICATION_STOP),
    ),
}
"""What instances go through that an Auto Scaling group launches, or ends, by the deployment's creator and by traffic
control. Nothing of what is launched is in traffic yet."""
FLEETS: dict[str, tuple[Stage, ...]] = {
    "IN_PLACE": (arrange(Arrangement.PROVISIONED), Stage(StageKind.FOLLOW), arrange(Arrangement.RETIRED)),
    "BLUE_GREEN": (
        arrange(Arrangement.PROVISIONED),
        Stage(StageKind.ENLIST),
        follow("replacement", StageKind.GATE),
        Stage(StageKind.HOLD),
        follow("replacement"),
        Stage(StageKind.SHIFT),
        follow("original"),
        arrange(Arrangement.PROMOTED),
        Stage(StageKind.HOLD, wanted=Arrangement.RETIRED),
        arrange(Arrangement.RETIRED),
    ),
}
"""What a group that launches instances goes through beside them, by deployment type. In place nothing launches or ends
any meanwhile, and afterwards it is as it was; in blue/green another group takes its place. Without weights to shift,
the replacements have traffic as soon as they are in it."""


def stages_of(deployment: Deployment, role: Role) -> tuple[Stage, ...]:
    if role == "fleet":
        stages = FLEETS[deployment.deployment_type]
        weighed = deployment.settings.weights is not None
        return stages if weighed else tuple(stage for stage in stages if stage.kind is not StageKind.SHIFT)
    return ORIGINALS if role == "original" else itinerary(deployment)


def itinerary(deployment: Deployment) -> tuple[Stage, ...]:
    traffic_control = deployment.settings.has_traffic_control
    if deployment.apart:
        return SCALING[deployment.creator, traffic_control]
    return ITINERARIES[deployment.platform, deployment.deployment_type, traffic_control]


def has_agents(stages: tuple[Stage, ...]) -> bool:
    """Whether agents carry out any of it."""
    return any(stage.kind in (StageKind.PREPARE, StageKind.SCRIPTS) for stage in stages)


def events_of(deployment: Deployment, role: Role = "") -> tuple[LifecycleEvent, ...]:
    """All lifecycle events of the deployment's targets of this role, in order."""
    return tuple(event for stage in stages_of(deployment, role) for event in stage.events)


def positions(deployment: Deployment) -> dict[str, int]:
    """The place of each lifecycle event in the order of its target's."""
    every = (*ORIGINALS, *itinerary(deployment)) if deployment.deployment_type in FLEETS else itinerary(deployment)
    return {str(event): number for number, event in enumerate(event for stage in every for event in stage.events)}


def leaves_service(stages: tuple[Stage, ...]) -> int:
    """The index of the first stage during which a target does not serve; past the end when it always does."""
    kinds = [stage.kind for stage in stages]
    if not has_agents(stages):
        return len(stages)
    return kinds.index(StageKind.BLOCK if StageKind.BLOCK in kinds else StageKind.SCRIPTS)


def comes_back(stages: tuple[Stage, ...]) -> bool:
    """Whether a target that succeeded serves then."""
    return not has_agents(stages) or any(stage.kind in (StageKind.ALLOW, StageKind.SETTLE) for stage in stages)


def returns_to_service(stages: tuple[Stage, ...]) -> int:
    """The index of the first stage during which it serves again; past the end when that is success itself."""
    kinds = [stage.kind for stage in stages]
    return kinds.index(StageKind.ALLOW) + 1 if StageKind.ALLOW in kinds else len(stages)
