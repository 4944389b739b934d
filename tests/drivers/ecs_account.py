"""An AWS account with one service behind a load balancer: a twin of the calls that a deployment makes, strict where AWS
is and moto is not (controllers, idle target groups, guarded deletions, steadiness that takes its time); and the same
account in moto."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from shiftwork_contract.appspec_ecs import Pair, ServiceShift
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.task_sets import NOTE

READS = ("describe_", "list_")
SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
AWS = "arn:aws:elasticloadbalancing:us-east-1:1:"
BLUE, GREEN = f"{AWS}targetgroup/blue/1", f"{AWS}targetgroup/green/2"
MAIN, TEST, RULE = f"{AWS}listener/app/web/1/80", f"{AWS}listener/app/web/1/8080", f"{AWS}listener-rule/app/web/1/80/7"
DEFINITION = "arn:aws:ecs:us-east-1:1:task-definition/web:{}"


def refused(code: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, code=code)


class Account:
    """`steady_after`: how often a new task set is looked at before it is steady. `crashes`: so many of its tasks have
    stopped at each look, and it never is. `denied`: operations that are refused. `unhealthy`: target groups without
    healthy targets."""

    def __init__(self, *, network: bool = False, with_test: bool = True, scaling: tuple[str, ...] | None = ()) -> None:
        self.made = 0
        self.controller, self.desired, self.status = "EXTERNAL", 2, "ACTIVE"
        self.tags: dict[str, str] = {}
        self.scaling = None if scaling is None else {key: key in scaling for key in SUSPENDED}
        self.steady_after, self.crashes = 0, 0
        self.denied: set[str] = set()
        self.unhealthy: set[str] = set()
        self.sets = [self._set("original", DEFINITION.format(1), [self._entry(BLUE)], "PRIMARY")]
        protocol = "TCP" if network else "HTTP"
        self.listeners = {arn: (protocol, [{"Type": "forward", "TargetGroupArn": BLUE}]) for arn in (MAIN, TEST)}
        self.rules: dict[str, list[Any]] = {}
        self.pair = Pair((BLUE, GREEN), MAIN, test_listener=TEST if with_test else "")
        self.definitions = {DEFINITION.format(n): "ACTIVE" for n in (1, 2)}

    def _entry(self, group: str) -> dict[str, Any]:
        return {"targetGroupArn": group, "containerName": "app", "containerPort": 80}

    def _set(self, mark: str, definition: str, balancers: list[Any], status: str = "ACTIVE", **more: Any) -> Any:
        self.made += 1
        return {
            "taskSetArn": f"arn:aws:ecs:us-east-1:1:task-set/c/s/ecs-svc/{self.made}", "id": f"ecs-svc/{self.made}",
            "status": status, "externalId": mark, "taskDefinition": definition, "loadBalancers": balancers,
            "launchType": "FARGATE", "platformVersion": "1.4.0", "runningCount": 2, "pendingCount": 0, "looks": 99,
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}, **more,
        }  # fmt: skip

    async def ask(self, service: str, operation: str, /, **parameters: Any) -> Any:
        if operation in self.denied:
            raise refused("IAM_ROLE_PERMISSIONS", f"cannot call {service}:{operation}: not allowed")
        return getattr(self, operation)(**parameters)

    # ecs

    def describe_services(self, cluster: str, services: list[str], include: list[str]) -> Any:
        if cluster != "c":
            raise refused("ClusterNotFoundException", "Cluster not found.")
        if services != ["s"]:
            return {"services": [], "failures": [{"reason": "MISSING"}]}
        found = {
            "serviceArn": "arn:aws:ecs:us-east-1:1:service/c/s", "status": self.status, "desiredCount": self.desired,
            "deploymentController": {"type": self.controller}, "taskSets": [self._told(s) for s in self.sets],
            "tags": [{"key": key, "value": value} for key, value in self.tags.items()],
        }  # fmt: skip
        return {"services": [found]}

    def _told(self, one: Any) -> Any:
        one["looks"] += 1
        steady = one["status"] == "PRIMARY" or (one["looks"] > self.steady_after and not self.crashes)
        told = {key: value for key, value in one.items() if key not in ("looks", "clientToken")}
        state = "STEADY_STATE" if steady else "STABILIZING"
        return told | {"stabilityStatus": state, "runningCount": self.desired if steady else 0}

    def create_task_set(self, **p: Any) -> Any:
        if self.controller != "EXTERNAL":
            raise refused("InvalidParameterException", "task sets need the EXTERNAL controller")
        if p["taskDefinition"] not in self.definitions:
            raise refused("ClientException", "no such task definition")
        for entry in p["loadBalancers"]:
            if entry["targetGroupArn"] not in self._attached():
                raise refused("InvalidParameterException", f"{entry['targetGroupArn']} has no load balancer")
        if not any(one.get("clientToken") == p["clientToken"] for one in self.sets):
            kept = {k: p[k] for k in ("launchType", "platformVersion", "networkConfiguration") if k in p}
            new = self._set(p["externalId"], p["taskDefinition"], p["loadBalancers"], clientToken=p["clientToken"])
            self.sets.append(new | kept | {"looks": 0})
        return {"taskSet": self.sets[-1]}

    def _attached(self) -> set[str]:
        return {group for actions in self._actions() for group in weights_of(actions)}

    def _actions(self) -> list[list[Any]]:
        return [actions for _, actions in self.listeners.values()] + list(self.rules.values())

    def update_service_primary_task_set(self, cluster: str, service: str, primaryTaskSet: str) -> Any:
        self._found(primaryTaskSet)
        for one in self.sets:
            one["status"] = "PRIMARY" if one["taskSetArn"] == primaryTaskSet else "ACTIVE"

    def delete_task_set(self, cluster: str, service: str, taskSet: str, force: bool) -> Any:
        one = self._found(taskSet)
        if one["status"] == "PRIMARY" or not force:
            raise refused("InvalidParameterException", "a task set that is primary, or not scaled down, stays")
        used = {group for actions in self._actions() for group, weight in weights_of(actions).items() if weight}
        assert not used & {entry["targetGroupArn"] for entry in one["loadBalancers"]}, "deleted under traffic"
        self.sets.remove(one)

    def _found(self, arn: str) -> Any:
        for one in self.sets:
            if one["taskSetArn"] == arn:
                return one
        raise refused("TaskSetNotFoundException", arn)

    def describe_task_definition(self, taskDefinition: str) -> Any:
        _, short, number = taskDefinition.partition("web:")
        arn = DEFINITION.format(number) if short and taskDefinition.startswith("web:") else taskDefinition
        if arn not in self.definitions:
            raise refused("ClientException", "Unable to describe task definition.")
        app = {"name": "app", "portMappings": [{"containerPort": 80}]}
        told = {"taskDefinitionArn": arn, "status": self.definitions[arn], "containerDefinitions": [app]}
        return {"taskDefinition": told}

    def list_tasks(self, cluster: str, serviceName: str, desiredStatus: str) -> Any:
        return {"taskArns": [f"task/{n}" for n in range(self.crashes + 1)]}

    def describe_tasks(self, cluster: str, tasks: list[str]) -> Any:
        mine, gone = self.sets[-1]["id"], {"name": "app", "exitCode": 1}
        why = {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container exited"}
        crashed = {"startedBy": mine, **why}
        stopped = {"startedBy": mine, "stopCode": "UserInitiated", "stoppedReason": "somebody stopped it"}
        return {"tasks": [stopped, *({**crashed, "containers": [gone]} for _ in range(self.crashes))]}

    def tag_resource(self, resourceArn: str, tags: list[dict[str, str]]) -> None:
        self.tags |= {tag["key"]: tag["value"] for tag in tags}

    def untag_resource(self, resourceArn: str, tagKeys: list[str]) -> None:
        for key in tagKeys:
            self.tags.pop(key, None)

    # elbv2, application-autoscaling

    def describe_listeners(self, ListenerArns: list[str]) -> Any:
        found = [(arn, *self.listeners[arn]) for arn in ListenerArns if arn in self.listeners]
        if len(found) < len(ListenerArns):
            raise refused("ListenerNotFound", "One or more listeners not found")
        return {"Listeners": [{"ListenerArn": a, "Protocol": p, "DefaultActions": actions} for a, p, actions in found]}

    def describe_rules(self, RuleArns: list[str]) -> Any:
        return {"Rules": [{"RuleArn": arn, "Actions": self.rules[arn]} for arn in RuleArns]}

    def modify_listener(self, ListenerArn: str, DefaultActions: list[Any]) -> None:
        protocol, _ = self.listeners[ListenerArn]
        assert protocol == "HTTP" or "ForwardConfig" not in DefaultActions[-1], "a network listener has no weights"
        self.listeners[ListenerArn] = (protocol, DefaultActions)

    def modify_rule(self, RuleArn: str, Actions: list[Any]) -> None:
        self.rules[RuleArn] = Actions

    def describe_target_health(self, TargetGroupArn: str) -> Any:
        bad = {"State": "unhealthy", "Reason": "Target.FailedHealthChecks"}
        state = bad if TargetGroupArn in self.unhealthy else {"State": "healthy"}
        return {"TargetHealthDescriptions": [{"TargetHealth": state}] * self.desired}

    def describe_scalable_targets(self, **_: Any) -> Any:
        return {"ScalableTargets": [] if self.scaling is None else [{"SuspendedState": self.scaling}]}

    def register_scalable_target(self, SuspendedState: dict[str, bool], **_: Any) -> None:
        assert self.scaling is not None
        self.scaling = SuspendedState


def weights_of(actions: list[Any]) -> dict[str, int]:
    action = next(a for a in actions if a["Type"] == "forward")
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups")
    return {g["TargetGroupArn"]: g.get("Weight", 1) for g in groups} if groups else {action["TargetGroupArn"]: 1}


class Site:
    """One account, asked directly: what stands there now, and which calls have changed it."""

    def __init__(self, real: Ask, pair: Pair, definitions: tuple[str, str]) -> None:
        self.real, self.pair, self.definitions = real, pair, definitions
        self.changes: list[str] = []
        self.reads = 0
        self.before: Callable[[str], None] = lambda operation: None

    async def ask(self, service: str, operation: str, /, **parameters: Any) -> Any:
        self.before(operation)
        if operation.startswith(READS):
            self.reads += 1
        else:
            self.changes.append(operation)
        return await self.real(service, operation, **parameters)

    def shift(self, original: str = "", token: str = "d-1.c:s") -> ServiceShift:
        return ServiceShift("c:s", "c", "s", original, *self.definitions, token, "app", 80, (self.pair,))

    async def stands(self) -> dict[str, Any]:
        """Definitions of primary and others, the second group's shares in percent, what is suspended, tags of ours."""
        told = await self.real("ecs", "describe_services", cluster="c", services=["s"], include=["TAGS"])
        found = told["services"][0]
        sets = [(s["status"], s["taskDefinition"].rsplit(":", 1)[-1]) for s in found.get("taskSets", [])]
        listeners = list(filter(None, (self.pair.listener, self.pair.test_listener)))
        listed = (await self.real("elbv2", "describe_listeners", ListenerArns=listeners))["Listeners"]
        shares = {one["ListenerArn"]: self._share(weights_of(one["DefaultActions"])) for one in listed}
        return {
            "primary": [n for status, n in sets if status == "PRIMARY"],
            "others": [n for status, n in sets if status != "PRIMARY"],
            "green": [shares[arn] for arn in listeners],
            "suspended": await self._suspended(),
            "noted": any(tag["key"] == NOTE for tag in found.get("tags", [])),
        }

    def _share(self, weights: dict[str, int]) -> int:
        return round(100 * weights.get(self.pair.target_groups[1], 0) / sum(weights.values()))

    async def _suspended(self) -> int | None:
        told = await self.real(
            "application-autoscaling", "describe_scalable_targets", ServiceNamespace="ecs",
            ResourceIds=["service/c/s"], ScalableDimension="ecs:service:DesiredCount",
        )  # fmt: skip
        targets = told["ScalableTargets"]
        return sum(map(bool, (targets[0].get("SuspendedState") or {}).values())) if targets else None


def twin(account: Account) -> Site:
    one, two = (DEFINITION.format(n) for n in (1, 2))
    return Site(account.ask, account.pair, (one, two))


def in_moto(real: Ask) -> Site:
    """The same service in moto: on Fargate, two tasks, an application load balancer with a test listener."""
    ec2, elb, ecs, scaling = (_client(name) for name in ("ec2", "elbv2", "ecs", "application-autoscaling"))
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    made = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")
        for n, zone in enumerate("ab")
    ]
    subnets = [one["Subnet"]["SubnetId"] for one in made]
    guard = ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
    network = {"awsvpcConfiguration": {"subnets": subnets, "securityGroups": [guard]}}
    balancer = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    groups = []
    for name in ("blue", "green"):
        told = elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
        group = told["TargetGroups"][0]["TargetGroupArn"]
        elb.register_targets(TargetGroupArn=group, Targets=[{"Id": f"10.20.0.{n}", "Port": 80} for n in (10, 11)])
        groups.append(group)
    listeners = [
        elb.create_listener(
            LoadBalancerArn=balancer, Protocol="HTTP", Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": groups[0]}],
        )["Listeners"][0]["ListenerArn"]
        for port in (80, 8080)
    ]  # fmt: skip
    ecs.create_cluster(clusterName="c")
    definitions = [_definition(ecs, n) for n in (1, 2)]
    ecs.create_service(cluster="c", serviceName="s", desiredCount=2, deploymentController={"type": "EXTERNAL"})
    first = ecs.create_task_set(
        cluster="c", service="s", taskDefinition=definitions[0], launchType="FARGATE", externalId="original",
        networkConfiguration=network, scale={"unit": "PERCENT", "value": 100.0},
        loadBalancers=[{"targetGroupArn": groups[0], "containerName": "app", "containerPort": 80}],
    )["taskSet"]  # fmt: skip
    ecs.update_service_primary_task_set(cluster="c", service="s", primaryTaskSet=first["taskSetArn"])
    scaling.register_scalable_target(
        ServiceNamespace="ecs", ResourceId="service/c/s", ScalableDimension="ecs:service:DesiredCount", MinCapacity=1,
        MaxCapacity=4,
    )  # fmt: skip
    pair = Pair((groups[0], groups[1]), listeners[0], test_listener=listeners[1])
    return Site(real, pair, (definitions[0], definitions[1]))


@functools.cache
def _client(name: str) -> Any:
    """To make one takes most of a second, and all tests speak to the same server."""
    import boto3

    return boto3.client(name)


def _definition(ecs: Any, number: int) -> str:
    app = {"name": "app", "image": f"web:{number}", "memory": 512, "portMappings": [{"containerPort": 80}]}
    told = ecs.register_task_definition(
        family="web", networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
        containerDefinitions=[app],
    )  # fmt: skip
    return str(told["taskDefinition"]["taskDefinitionArn"])
