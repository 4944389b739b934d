"""An AWS account with load balancers: a twin of the calls that the drivers `elbv2` and `elb` make, strict where AWS is
and moto is not (checks and draining that take their time, groups that nothing uses, instances that are gone, limits,
throttling, rights); and the same account in moto.

Time passes by looking: each description of health lets `step` seconds go by, and one check of each target.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.aws.errors import translated
from shiftwork_coordinator.balancers import connect
from shiftwork_coordinator.ports import LoadBalancer, Server
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.testing import MemoryGates

ELB = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
VPC, NETWORK = "vpc-1", ip_network("10.0.0.0/16")
TEXTS = {
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.InvalidState": "Target is in the stopped state",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
}
CLASSIC = {
    "registering": "Instance registration is still in progress.",
    "failed": "Instance has failed at least the UnhealthyThreshold number of health checks consecutively.",
    "passing": "Instance has not passed the configured HealthyThreshold number of health checks consecutively.",
    "absent": "Instance is not currently registered with the LoadBalancer.",
    "leaving": "Instance deregistration currently in progress.",
    "stopped": "Instance is in stopped state.",
}


@contextmanager
def refusals(service: str, operation: str) -> Iterator[Callable[..., Exception]]:
    """What is raised in AWS's words comes out in ours."""
    from botocore.exceptions import ClientError

    def refused(code: str, text: str, status: int = 400) -> Exception:
        answer: Any = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return ClientError(answer, operation)

    with translated(service, operation):
        yield refused


@dataclass
class Instance:
    """`vpc` is its network, `state` EC2's."""

    address: str
    vpc: str = VPC
    state: str = "running"
    zone: str = "us-east-1a"


@dataclass
class Member:
    """A target, or an instance of a classic balancer. `leaving`: when it will be gone. Until `late` requests still
    reach it: not all of AWS's nodes know at once."""

    state: str = "initial"
    passed: int = 0
    failed: int = 0
    leaving: float | None = None
    late: float = 0.0
    looks: int = 0

    def check(self, passes: bool, needed: int, fails: int) -> None:
        self.passed, self.failed = (self.passed + 1, 0) if passes else (0, self.failed + 1)
        if self.passed >= (1 if self.state == "initial" else needed):
            self.state = "healthy"
        elif self.failed >= fails:
            self.state = "unhealthy"


@dataclass
class Pool:
    """A target group (members by id and port), or a classic balancer (port 0)."""

    name: str
    kind: str = "instance"
    port: int = 80
    balancers: tuple[str, ...] = ("web",)
    healthy: int = 3
    unhealthy: int = 2
    interval: int = 10
    delay: float = 20.0
    draining: bool = True
    cross_zone: bool = True
    zones: tuple[str, ...] = ("us-east-1a", "us-east-1b")
    attributes: dict[str, str] = field(default_factory=dict)
    members: dict[tuple[str, int], Member] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"{ELB}:targetgroup/{self.name}/0123456789abcdef"


def _passes(id: str) -> bool:
    return True


class Account:
    """Faults: `denied` operations, `throttled` calls that fail so before one works, `down`: nothing answers. `calls`
    are those that were answered; `probe` tells whether a check passes, by the target's id."""

    def __init__(self, ids: tuple[str, ...] = ("i-1", "i-2", "i-3", "i-4")) -> None:
        self.instances = {id: Instance(f"10.0.0.{n}") for n, id in enumerate(ids, 10)}
        self.pools = {"web": Pool("web")}
        self.network: set[str] = set()
        self.balancer_attributes: dict[str, dict[str, str]] = {}
        self.probe: Callable[[str], bool] = _passes
        self.now, self.step = 1000.0, 10.0
        self.denied: set[str] = set()
        self.throttled, self.down = 0, False
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.in_flight: Counter[str] = Counter()
        self._turn = 0

    @property
    def made(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def settled(self, *names: str, port: int = 0) -> Account:
        """All instances are in these pools, healthy."""
        for pool in (self.pools[name] for name in names or ("web",)):
            for id, one in self.instances.items():
                known = one.address if pool.kind == "ip" else id
                pool.members[known, port or pool.port] = Member("healthy", passed=9, looks=9)
        return self

    async def ask(self, service: str, operation: str, /, **parameters: Any) -> Any:
        with refusals(service, operation) as refused:
            if self.down:
                raise Unavailable(f"cannot call {service}:{operation} now: connection refused")
            if self.throttled:
                self.throttled -= 1
                raise refused("Throttling", "Rate exceeded")
            if operation in self.denied:
                role = "arn:aws:sts::123456789012:assumed-role/coordinator/i-0"
                raise refused("AccessDenied", f"User: {role} is not authorized to perform this", 403)
            self.calls.append((operation, parameters))
            self.refused = refused
            return getattr(self, f"{service}_{operation}")(**parameters)

    # Requests

    def begin(self, pool: str = "web") -> str:
        """The id of the target that gets a request."""
        members = self.pools[pool].members
        staying = {key: m for key, m in members.items() if m.leaving is None}
        healthy = [key for key, m in staying.items() if m.state == "healthy"]
        able = sorted(healthy or staying) + sorted(key for key, m in members.items() if self.now < m.late)
        if not able:
            raise Unavailable("503: no target is in")
        self._turn += 1
        chosen = able[self._turn % len(able)][0]
        self.in_flight[chosen] += 1
        return chosen

    def end(self, id: str) -> None:
        self.in_flight[id] -= 1

    # Time

    def _look(self, pool: Pool) -> None:
        self.now += self.step
        for key, member in list(pool.members.items()):
            if member.leaving is not None:
                if self.now >= member.leaving:
                    del pool.members[key]
                continue
            if self._idle(pool, key[0]):
                continue
            member.looks += 1
            if member.looks > 1:  # at first it is being registered
                member.check(self.probe(key[0]), pool.healthy, pool.unhealthy)

    def _idle(self, pool: Pool, id: str) -> str:
        """Why nothing is sent to it, or checked."""
        one = self.instances.get(id)
        if one is not None and one.state != "running":
            return "Target.InvalidState"
        in_zone = one is None or one.zone in pool.zones
        return "" if pool.balancers and in_zone else "Target.NotInUse"

    def _leave(self, pool: Pool, key: tuple[str, int]) -> None:
        member = pool.members.get(key)
        if member is not None and member.leaving is None:
            if self._idle(pool, key[0]):
                del pool.members[key]
            else:
                member.leaving, member.late = self.now + pool.delay, self.now + pool.delay / 2

    def _join(self, pool: Pool, key: tuple[str, int]) -> None:
        member = pool.members.get(key)
        if member is None or member.leaving is not None:
            pool.members[key] = Member()

    # elbv2

    def _group(self, arn: str) -> Pool:
        for pool in self.pools.values():
            if pool.arn == arn:
                return pool
        raise self.refused("TargetGroupNotFound", f"Target group '{arn}' not found")

    def elbv2_describe_target_groups(self, TargetGroupArns: Any = (), Names: Any = ()) -> Any:
        assert not (TargetGroupArns and Names), "AWS takes one of them"
        wanted = [*TargetGroupArns, *Names]
        found = [pool for pool in self.pools.values() if {pool.arn, pool.name} & set(wanted)]
        if len(found) < len(wanted):
            raise self.refused("TargetGroupNotFound", "One or more target groups not found")
        return {"TargetGroups": [self._told(pool) for pool in found]}

    def _told(self, pool: Pool) -> Any:
        arns = [f"{ELB}:loadbalancer/app/{name}/1" for name in pool.balancers]
        told = {
            "TargetGroupArn": pool.arn, "TargetGroupName": pool.name, "Protocol": "HTTP", "Port": pool.port,
            "VpcId": VPC, "TargetType": pool.kind, "LoadBalancerArns": arns,
            "HealthCheckIntervalSeconds": pool.interval, "HealthyThresholdCount": pool.healthy,
            "UnhealthyThresholdCount": pool.unhealthy,
        }  # fmt: skip
        return told if pool.kind != "lambda" else {key: told[key] for key in told if key not in ("Port", "VpcId")}

    def elbv2_describe_target_group_attributes(self, TargetGroupArn: str) -> Any:
        pool = self._group(TargetGroupArn)
        attributes = {"deregistration_delay.timeout_seconds": f"{pool.delay:g}", **pool.attributes}
        return {"Attributes": [{"Key": key, "Value": value} for key, value in attributes.items()]}

    def elbv2_describe_load_balancers(self, LoadBalancerArns: list[str]) -> Any:
        names = [arn.split("/")[2] for arn in LoadBalancerArns]
        kinds = {True: "network", False: "application"}
        told = zip(names, LoadBalancerArns, strict=True)
        return {
            "LoadBalancers": [
                {"LoadBalancerName": name, "LoadBalancerArn": arn, "Type": kinds[name in self.network]}
                for name, arn in told
            ]
        }

    def elbv2_describe_load_balancer_attributes(self, LoadBalancerArn: str) -> Any:
        attributes = self.balancer_attributes.get(LoadBalancerArn.split("/")[2], {})
        return {"Attributes": [{"Key": key, "Value": value} for key, value in attributes.items()]}

    def elbv2_describe_target_health(self, TargetGroupArn: str) -> Any:
        pool = self._group(TargetGroupArn)
        self._look(pool)
        told = [(key, self._health(pool, key[0], member)) for key, member in pool.members.items()]
        return {
            "TargetHealthDescriptions": [
                {"Target": {"Id": id, "Port": port}, "TargetHealth": health} for (id, port), health in told
            ]
        }

    def _health(self, pool: Pool, id: str, member: Member) -> dict[str, str]:
        state, reason = member.state, ""
        if member.leaving is not None:
            state, reason = "draining", "Target.DeregistrationInProgress"
        elif idle := self._idle(pool, id):
            state, reason = "unused", idle
        elif state == "initial":
            reason = "Elb.RegistrationInProgress"
        elif state == "unhealthy":
            reason = "Target.FailedHealthChecks"
        return {"State": state} | ({"Reason": reason, "Description": TEXTS[reason]} if reason else {})

    def elbv2_register_targets(self, TargetGroupArn: str, Targets: list[dict[str, Any]]) -> None:
        pool = self._group(TargetGroupArn)
        assert len(Targets) <= 200
        for target in Targets:
            self._refuse(pool, target)
        for target in Targets:
            self._join(pool, (target["Id"], target.get("Port", pool.port)))

    def _refuse(self, pool: Pool, target: dict[str, Any]) -> None:
        """One that is wrong fails the whole call."""
        id = target["Id"]
        if pool.kind == "ip":
            if ip_address(id) not in NETWORK and target.get("AvailabilityZone") != "all":
                raise self.refused("ValidationError", f"The IP address '{id}' must be within the VPC CIDR")
            return
        one = self.instances.get(id)
        if one is None:
            raise self.refused("InvalidTarget", f"The following targets are not valid instances: '{id}'")
        if one.vpc != VPC:
            raise self.refused("InvalidTarget", f"The following targets are not in the target group VPC: '{id}'")
        if one.state != "running":
            raise self.refused("InvalidTarget", f"The following targets are not in a running state: '{id}'")

    def elbv2_deregister_targets(self, TargetGroupArn: str, Targets: list[dict[str, Any]]) -> None:
        pool = self._group(TargetGroupArn)
        assert len(Targets) <= 200
        for target in Targets:
            if pool.kind == "instance" and target["Id"] not in self.instances:
                raise self.refused("InvalidTarget", f"The following targets are not valid: '{target['Id']}'")
        for target in Targets:
            self._leave(pool, (target["Id"], target.get("Port", pool.port)))

    # elb

    def _classic(self, name: str) -> Pool:
        if name not in self.pools:
            raise self.refused("LoadBalancerNotFound", f"There is no ACTIVE Load Balancer named '{name}'")
        return self.pools[name]

    def elb_describe_load_balancers(self, LoadBalancerNames: list[str]) -> Any:
        pools = [self._classic(name) for name in LoadBalancerNames]
        check = [{"Interval": pool.interval, "HealthyThreshold": pool.healthy} for pool in pools]
        told = zip(pools, check, strict=True)
        return {"LoadBalancerDescriptions": [{"LoadBalancerName": p.name, "HealthCheck": c} for p, c in told]}

    def elb_describe_load_balancer_attributes(self, LoadBalancerName: str) -> Any:
        pool = self._classic(LoadBalancerName)
        draining = {"Enabled": pool.draining} | ({"Timeout": int(pool.delay)} if pool.draining else {})
        cross = {"Enabled": pool.cross_zone}
        return {"LoadBalancerAttributes": {"ConnectionDraining": draining, "CrossZoneLoadBalancing": cross}}

    def elb_describe_instance_health(self, LoadBalancerName: str, Instances: Any = ()) -> Any:
        pool = self._classic(LoadBalancerName)
        named = [one["InstanceId"] for one in Instances]
        self._known(named)
        self._look(pool)
        shown = named or [id for id, _ in pool.members]
        told = [self._in_words(pool, id) for id in shown if self.instances[id].state != "terminated"]
        return {"InstanceStates": told}

    def _in_words(self, pool: Pool, id: str) -> dict[str, str]:
        member = pool.members.get((id, pool.port))
        state, word = "OutOfService", "absent"
        if member is not None:
            if member.leaving is not None:
                state, word = "InService", "leaving"
            elif self.instances[id].state != "running":
                word = "stopped"
            elif member.state == "healthy":
                return {"InstanceId": id, "State": "InService", "ReasonCode": "N/A", "Description": "N/A"}
            else:
                word = "registering" if member.state == "initial" else "failed"
        return {"InstanceId": id, "State": state, "ReasonCode": "ELB", "Description": CLASSIC[word]}

    def elb_register_instances_with_load_balancer(self, LoadBalancerName: str, Instances: Any) -> None:
        pool, ids = self._classic(LoadBalancerName), [one["InstanceId"] for one in Instances]
        self._known(ids)
        for id in ids:
            if self.instances[id].state != "running":
                raise self.refused("InvalidInstance", f"Invalid State for instance: {id}")
        for id in ids:
            self._join(pool, (id, pool.port))

    def elb_deregister_instances_from_load_balancer(self, LoadBalancerName: str, Instances: Any) -> None:
        pool, ids = self._classic(LoadBalancerName), [one["InstanceId"] for one in Instances]
        self._known(ids)
        for id in ids:
            self._leave(pool, (id, pool.port))

    def _known(self, ids: list[str]) -> None:
        for id in ids:
            if id not in self.instances:
                raise self.refused("InvalidInstance", f"Could not find EC2 instance {id}.")


def servers(account: Account) -> list[Server]:
    """The account's instances, by the names s1, s2 …"""
    named = enumerate(account.instances.items(), 1)
    return [Server(f"s{n}", f"s{n}", one.address, 80, id) for n, (id, one) in named]


def connected(account: Account, kind: str, **settings: object) -> LoadBalancer:
    """A driver that asks this account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "of", lambda at: account.ask)
        return connect(kind, settings, MemoryGates())


# moto


@functools.cache
def client(name: str) -> Any:
    """To make one takes most of a second, and all tests speak to the same server."""
    import boto3

    return boto3.client(name)


@dataclass
class InMoto:
    servers: list[Server]
    group: str
    second: str
    classic: str


def in_moto() -> InMoto:
    """Three instances in two target groups of a load balancer, one of them by address, and in a classic one."""
    ec2, elbv2, elb = client("ec2"), client("elbv2"), client("elb")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{z}")["Subnet"]["SubnetId"]
        for n, z in enumerate("ab")
    ]
    made = ec2.run_instances(ImageId="ami-12c6146b", MinCount=3, MaxCount=3, SubnetId=subnets[0])["Instances"]
    known = [Server(f"s{n}", f"s{n}", i["PrivateIpAddress"], 80, i["InstanceId"]) for n, i in enumerate(made, 1)]
    balancer = elbv2.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    arns = []
    for name, kind in (("by-id", "instance"), ("by-address", "ip")):
        told = elbv2.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc, TargetType=kind)
        arn = told["TargetGroups"][0]["TargetGroupArn"]
        ids = [server.cloud_id if kind == "instance" else server.address for server in known]
        elbv2.register_targets(TargetGroupArn=arn, Targets=[{"Id": id, "Port": 80} for id in ids])
        action = [{"Type": "forward", "TargetGroupArn": arn}]
        elbv2.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80 + len(arns), DefaultActions=action)
        arns.append(arn)
    listener = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}
    elb.create_load_balancer(LoadBalancerName="old", Listeners=[listener], Subnets=subnets[:1])
    instances = [{"InstanceId": server.cloud_id} for server in known]
    elb.register_instances_with_load_balancer(LoadBalancerName="old", Instances=instances)
    return InMoto(known, arns[0], arns[1], "old")
