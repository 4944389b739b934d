"""Every port of the coordinator: what the engine's shell needs from the outside world.

Rules for all: verbs are idempotent and return when *asked*, not when done (only the engine waits); a reading may say
"cannot tell"; nothing here remembers anything between calls that it could not read back; errors of the outside are
raised as `Unavailable` (worth a retry) or `InvalidRequest` (a person must act), each naming the thing and the remedy.
Each port has an in-memory twin in `testing.py`, and one suite of tests accepts the twin and the real drivers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import GateState
from shiftwork_contract.place import Reference
from shiftwork_contract.resource import Shift
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.launches import ScalingHook
from shiftwork_coordinator.model.settings import AutoScaling, Instances


class Clock(Protocol):
    def now(self) -> float:
        """Unix time in seconds: for rows and for people."""

    def monotonic(self) -> float:
        """Seconds that never jump: for measuring how long something took."""


class TrafficState(StrEnum):
    """How a balancer treats one server.

    ABSENT: out; it gets no new request, and this is known, not hoped. STARTING: in, not yet proven by a check made
    after it came in. HEALTHY: in, and called healthy by checks made since it came in. UNHEALTHY: in, checks fail.
    DRAINING: asked to leave, but new requests may still arrive. UNKNOWN: the balancer could not be asked or gave an
    answer that means nothing; never read as "out" nor as "quiet".
    """

    ABSENT = "absent"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    UNKNOWN = "unknown"


class Server(msgspec.Struct, frozen=True):
    """An instance as a balancer may know it: by `name` (explicit, default the instance's), else by address and port.

    `port` 0 stands for any port of that address. `cloud_id` is EC2's id of it, empty elsewhere.
    """

    instance: str
    name: str
    address: str = ""
    port: int = 0
    cloud_id: str = ""


class Reading(msgspec.Struct, frozen=True):
    """One server in one balancer at one moment.

    `in_flight` counts requests being served by it or queued for it, over all backends and processes; None = the
    balancer cannot count. `generation` names the balancer's process and configuration: two readings prove something
    together only when it is equal; empty = it has none. `out_by` is set where the balancer itself tells that somebody
    other than us took the server out ("configuration"); an empty one proves nothing. `lasts`: seconds that the
    balancer's own configuration may keep it in this state, or on its way there, such as a deregistration delay; the
    group's limits come on top. `detail` is for people.
    """

    state: TrafficState
    in_flight: int | None = None
    generation: str = ""
    out_by: str = ""
    detail: str = ""
    lasts: float = 0.0


class Pace(msgspec.Struct, frozen=True):
    """Seconds between two readings: `quick` while a target is on its way out or in, `easy` otherwise."""

    quick: float = 0.1
    easy: float = 1.0


class Problem(msgspec.Struct, frozen=True):
    """Something that would go wrong, found before anything is touched. `fatal` refuses the deployment, with `code`."""

    message: str
    fatal: bool = True
    instance: str = ""
    code: str = ""


class NotTaken(InvalidRequest):
    """Some servers cannot be asked for, `why` by instance. The others were: it is no error of theirs."""

    def __init__(self, why: Mapping[str, str], *, code: str) -> None:
        super().__init__("; ".join(why.values()), code=code)
        self.why = why


class LoadBalancer(Protocol):
    """One balancer endpoint with the backends that a group uses there. One that cannot be asked ten times a second has
    an attribute `pace`, a Pace."""

    name: str
    """For people and logs: kind and endpoint, without secrets."""

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        """What would go wrong: unknown backend, server missing or matched twice, no rights, no checks, too old …"""

    async def deregister(self, servers: Sequence[Server]) -> None:
        """Ask that these get no new request. Cuts nothing that is in flight. Already out is fine.

        Raises Unavailable or InvalidRequest, after asking every part of the balancer that could be asked: servers may
        then be out in one part and not in another, which `states` shows as DRAINING or UNKNOWN. NotTaken is an error
        of some of them alone.
        """

    async def register(self, servers: Sequence[Server]) -> None:
        """Ask that these get requests again once checks *made from now on* pass. Already in is fine and resets nothing.

        Raises like `deregister`.
        """

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        """A reading for every server, by instance; UNKNOWN with the reason in `detail` instead of an exception."""

    async def close(self) -> None: ...


class Gates(Protocol):
    """The agents' health gates, for balancers that are steered through their own health checks."""

    async def set(self, instance: str, *, open: bool) -> None:
        """Ask the instance's agent to open or close this group's gate. Raises Unavailable when it is not connected.

        Setting a gate as it already stands must not begin its counts anew.
        """

    def state(self, instance: str) -> GateState | None:
        """The last state reported after the last `set` reached the agent; None when there is none yet."""


class Member(msgspec.Struct, frozen=True):
    """An instance of EC2 that a group's settings mean. `state` is EC2's word; `group` is the Auto Scaling group that it
    belongs to and `lifecycle` its state there, which is known where the group was asked for."""

    id: str
    state: str
    zone: str = ""
    group: str = ""
    lifecycle: str = ""


class Fleets(Protocol):
    """The instances of EC2, in one account and region."""

    async def members(self, wanted: Instances) -> Sequence[Member]:
        """Every instance with one of the `ids`, in one of the groups `autoscaling`, or with the tags; each once. Those
        that were terminated need not be told, but for `ids`. Raises InvalidRequest that names ids and groups which are
        not there, Unavailable for what may pass."""

    async def lost(self, ids: Sequence[str], *, missing: bool = False) -> Mapping[str, str]:
        """Those of these instances that do not run, or not for long, with EC2's state; with `missing` also those that
        EC2 does not know (any more), as "missing". Raises like `members`."""

    async def terminate(self, ids: Sequence[str]) -> None:
        """Ask that these instances end, for good. What is gone already is fine. Raises Unavailable or
        InvalidRequest."""


class ScalingHooks(Protocol):
    """Lifecycle hooks of Auto Scaling groups, in one account and region. All raise like `Fleets.members`."""

    async def members(self, groups: Sequence[str]) -> Sequence[Member]:
        """Every instance of these groups, those that wait included; EC2's own state is not asked. Groups that are not
        there have none."""

    async def put(self, hook: ScalingHook, settings: AutoScaling) -> bool:
        """The hook stands as the settings want it. Whether it did not before."""

    async def delete(self, hook: ScalingHook) -> None:
        """One that is not there is fine, and so is a group that is not."""

    async def answer(self, hook: ScalingHook, instance: str, outcome: str) -> None:
        """`CONTINUE` or `ABANDON`, for an instance by EC2's id. That it does not wait any more is fine."""

    async def beat(self, hook: ScalingHook, instance: str) -> None:
        """It is waited for anew from now on. That it does not wait any more is fine."""

    async def hear(self, queue: str) -> bool:
        """Whether the queue, by its ARN, had news, which is taken out of it. It is waited for some seconds."""


class AlarmReading(msgspec.Struct, frozen=True):
    """One alarm at one moment. UNREADABLE: the source has none of that name, or would not say; `reason` tells which.
    `changed_at` is when it came into this state, Unix time."""

    state: Literal["OK", "ALARM", "INSUFFICIENT_DATA", "UNREADABLE"]
    reason: str = ""
    changed_at: float | None = None


class Notifier(Protocol):
    async def publish(self, topic: str, subject: str, message: str) -> None:
        """Raises Unavailable or InvalidRequest."""


class AlarmSource(Protocol):
    """Where a group's alarms are asked."""

    async def states(self, names: Sequence[str]) -> Mapping[str, AlarmReading]:
        """A reading for every name, in as few calls as can be; UNREADABLE with the reason instead of an exception."""

    async def close(self) -> None: ...


class Sources(Protocol):
    """Places outside that revisions lie in: S3, GitHub."""

    async def pin(self, wanted: Reference) -> Revision:
        """The revision that lies there now. Reads all of it, once, where its digest is not known.

        Raises InvalidRequest, with a remedy, for what is not there or not allowed; Unavailable for what may pass.
        """

    async def location(self, identity: str, url: str) -> str:
        """A web address where a pinned revision can be read for some minutes, without credentials: it is a secret.

        Raises InvalidRequest for what was never pinned, whoever asks.
        """


class ShiftReading(msgspec.Struct, frozen=True):
    """One resource at one moment: the share of traffic that its replacement has (None = not to be told), whether the
    replacement can take traffic, and which arrangements are in force. `fatal`: as things are it never will; `detail` is
    for people. `members` are EC2's ids of the instances that a replacement is made of."""

    weight: float | None
    ready: bool = True
    holds: frozenset[Arrangement] = frozenset()
    fatal: bool = False
    detail: str = ""
    members: tuple[str, ...] = ()


class HookCall(msgspec.Struct, frozen=True):
    """What a hook function is told. It may be told the same `id` twice."""

    id: str
    deployment_id: str
    function: str
    event: str
    resource: Shift


class HookAnswer(msgspec.Struct, frozen=True):
    status: Literal["Succeeded", "Failed"]
    message: str = ""


R = TypeVar("R", contravariant=True)


class TrafficShifter(Protocol[R]):
    """A platform whose resources' traffic is shifted by weights; R is its kind of resource."""

    async def check(self, resources: Sequence[R], *, gradual: bool = False) -> Sequence[Problem]:
        """What would go wrong: unknown resource, original elsewhere than said, replacement missing, no rights.
        `gradual`: weights between 0 and 1 will be asked for."""

    async def set_weight(self, resource: R, weight: float) -> None:
        """Ask that the replacement has this share of the traffic, 0 to 1. As it stands is fine. Raises Unavailable or
        InvalidRequest."""

    async def arrange(self, resource: R, wanted: Arrangement) -> None:
        """Ask for an arrangement of original and replacement. What is there already is not made again; may be called
        again after a crash at any point. Raises like `set_weight`."""

    async def readings(self, resources: Sequence[R]) -> Mapping[str, ShiftReading]:
        """A reading for every resource, by name; one that cannot be told with the reason, instead of an exception."""


class HookFunctions(Protocol):
    async def invoke(self, call: HookCall, *, wait: bool) -> HookAnswer | None:
        """Invokes a hook function. With `wait` its answer is what it returned, else None: it answers by itself later.
        Raises Unavailable or InvalidRequest when it could not be invoked."""


class LoadBalancerFactory(Protocol):
    """What stands in the built-in table and under the entry point `shiftwork.load_balancers`."""

    def __call__(self, settings: Mapping[str, object], gates: Gates) -> LoadBalancer:
        """Raises InvalidRequest for settings it cannot use: unknown key, wrong type, a value outside its limit."""
