"""The least IAM policy for what groups use: one document for each role that acts. Pure.

Actions are narrowed to the resources that the groups name wherever IAM can do that. What only an AppSpec names
(functions, task definitions) cannot be known here, and is a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_coordinator.aws.rights import ALSO, ANY, FEATURES
from shiftwork_coordinator.balancers import placed
from shiftwork_coordinator.model.settings import GroupSettings

OWN = ""
"""The coordinator's own identity, as no role."""
Resources = Mapping[str, tuple[str, ...]]
FUNCTIONS = (
    "functions are named by AppSpecs, which a policy cannot know: narrow `function:*` to the functions of these groups"
)
COPIES = "shiftwork-*"
"""What copies of Auto Scaling groups are called."""
HOOKS = "hook functions that AppSpecs name are taken to be called CodeDeployHook_*, as CodeDeploy wants it"
ROLES = "task definitions name the roles that tasks get: narrow `role/*` to those"
TEMPLATES = (
    "what is launched stands in the launch template: narrow ec2:RunInstances to what it names, and `role/*` to the role"
    " of its instance profile"
)


ENDED = (
    "originals that are terminated are chosen by their tags: narrow ec2:TerminateInstances to these by a Condition on"
    " ec2:ResourceTag"
)


class Use(msgspec.Struct, frozen=True):
    """A feature that somebody uses as `role`; `resources` are ARNs by kind."""

    feature: str
    role: str
    resources: Resources = {}
    notes: tuple[str, ...] = ()


class Policy(msgspec.Struct, frozen=True):
    """What one role must be allowed; empty `role`: the coordinator's own identity."""

    role: str
    document: dict[str, Any]
    notes: tuple[str, ...]


class Place(msgspec.Struct, frozen=True):
    """`account` and `region` may be `*`."""

    account: str = ANY
    region: str = ANY

    def arn(self, service: str, rest: str, *, region: bool = True) -> str:
        """`rest` as it is when it is an ARN already. Without `region` the service is the same everywhere."""
        if rest.startswith("arn:"):
            return rest
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account}:{rest}"

    @property
    def partition(self) -> str:
        return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(self.region.rpartition("-")[0].rpartition("-")[0], "aws")


def policies(
    groups: Sequence[GroupSettings], account: str = ANY, buckets: Iterable[str] = (), *, sam: bool = False
) -> list[Policy]:
    """The coordinator's own first, then those of the roles that it takes on. None for what nobody uses."""
    uses = [use for group in groups for use in used(group, account, sam=sam)]
    region = next((group.aws.region for group in groups if group.aws.region), ANY)
    uses += [_bucket(Place(region=region), name) for name in buckets]
    roles = sorted({use.role for use in uses} - {OWN})
    if roles:
        uses.append(Use("roles", OWN, {"role": tuple(roles)}))
    found = [_policy(role, [use for use in uses if use.role == role]) for role in (OWN, *roles)]
    return [policy for policy in found if policy.document["Statement"]]


def used(group: GroupSettings, account: str = ANY, *, sam: bool = False) -> Iterator[Use]:
    """What one group uses."""
    at, role = Place(account, group.aws.region or ANY), group.aws.role_arn
    yield from _balancers(group, account)
    if any(wanted.in_ec2 for wanted in group.selectors):
        yield Use("ec2", role)
    if any(wanted.autoscaling for wanted in group.selectors):
        yield Use("autoscaling", role)
        yield from _scaling(group, at)
    if len(group.selectors) > 1 and group.originals.then == "terminate":
        yield Use("ec2.terminate", role, {"instance": (at.arn("ec2", "instance/*"),)}, (ENDED,))
    if group.ecs is not None:
        yield _service(group, at)
    if group.platform == "Lambda":
        yield Use("lambda", role, {"function": _functions(at, [ANY])}, (FUNCTIONS,))
        if sam:
            yield Use("code", role, {"function": _functions(at, [ANY])})
            yield Use("stacks", OWN, {"stack": (at.arn("cloudformation", "stack/*"),)})
    if group.platform != "Server":
        named = list(group.hooks.named().values())
        notes = () if named else (HOOKS,)
        yield Use("hooks", role, {"hook": _functions(at, named or ["CodeDeployHook_*"])}, notes)
    if group.triggers:
        yield Use("triggers", role, {"topic": tuple(trigger.sns for trigger in group.triggers)})
    if group.alarms.cloudwatch:
        yield Use("alarms", group.alarms.role_arn)


def _scaling(group: GroupSettings, at: Place) -> Iterator[Use]:
    role, names = group.aws.role_arn, [name for wanted in group.selectors for name in wanted.autoscaling]
    yield from _hooks(group, at)
    if group.blue_green is None or group.blue_green.green == "existing":
        if group.autoscaling.suspend:
            yield Use("autoscaling.suspend", role, _named(at, names))
        return
    copied = group.blue_green.green == "copy"
    both = _named(at, [*names, COPIES if copied else group.blue_green.standby])
    yield Use("blue_green", role, both)
    if weights := group.weights:
        routes = {"listener": (weights.listener,), "listener-rule": (weights.rule,)}
        yield Use("blue_green.shift", role, {kind: tuple(filter(None, arns)) for kind, arns in routes.items()})
        yield Use("elbv2", role, {"targetgroup": weights.target_groups})
    if copied:
        passed = {"passed": (at.arn("iam", "role/*", region=False),)}
        yield Use("blue_green.copy", role, {**both, **passed}, (TEMPLATES,))


def _hooks(group: GroupSettings, at: Place) -> Iterator[Use]:
    role, settings, both = group.aws.role_arn, group.autoscaling, group.blue_green
    if len(group.selectors) > 1 or not (settings.launch_hook or settings.termination_hook):
        return
    names = [*group.instances.autoscaling]
    if both is not None:
        names.append(COPIES if both.green == "copy" else both.standby)
    yield Use("autoscaling.hooks", role, _named(at, names))
    if settings.queue:
        yield Use("autoscaling.queue", role, {"queue": (settings.queue,)})
    if settings.queue_role_arn:
        yield Use("autoscaling.told", role, {"passed": (settings.queue_role_arn,)})


def _named(at: Place, groups: Iterable[str]) -> Resources:
    arns = [at.arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{name}") for name in groups]
    return {"autoScalingGroup": tuple(arns)}


def _balancers(group: GroupSettings, account: str) -> Iterator[Use]:
    for kind, options in [pair for entry in group.load_balancers for pair in entry.items()]:
        given: Mapping[str, Any] = placed(kind, options, group.aws.region, group.aws.role_arn)
        at, role = Place(account, given.get("region") or ANY), given.get("role_arn", OWN)
        if kind == "elbv2":
            names = [given["target_group"]] if given.get("target_group") else given.get("target_groups", ())
            groups = tuple(at.arn("elasticloadbalancing", _of_group(name)) for name in names)
            yield Use("elbv2", role, {"targetgroup": groups})
        if kind == "elb":
            names = [given["load_balancer"]] if given.get("load_balancer") else given.get("load_balancers", ())
            balancers = tuple(at.arn("elasticloadbalancing", f"loadbalancer/{name}") for name in names)
            yield Use("elb", role, {"loadbalancer": balancers})


def _of_group(name: str) -> str:
    return name if name.startswith("arn:") else f"targetgroup/{name}/*"


def _service(group: GroupSettings, at: Place) -> Use:
    assert group.ecs is not None
    cluster, service = group.ecs.cluster.rpartition("/")[2], group.ecs.service.rpartition("/")[2]
    pairs = group.ecs.load_balancers
    rules = tuple(filter(None, [rule for pair in pairs for rule in (pair.rule, pair.test_rule)]))
    listeners = [p.listener for p in pairs if not p.rule] + [p.test_listener for p in pairs if not p.test_rule]
    resources = {
        "cluster": (at.arn("ecs", f"cluster/{cluster}"),),
        "service": (at.arn("ecs", f"service/{cluster}/{service}"),),
        "task-set": (at.arn("ecs", f"task-set/{cluster}/{service}/*"),),
        "task": (at.arn("ecs", f"task/{cluster}/*"),),
        "listener": tuple(filter(None, listeners)),
        "listener-rule": rules,
        "scalable-target": (at.arn("application-autoscaling", "scalable-target/*"),),
        "passed": (at.arn("iam", "role/*", region=False),),
    }
    return Use("ecs", group.aws.role_arn, resources, (ROLES,))


def _functions(at: Place, names: Iterable[str]) -> tuple[str, ...]:
    """With their versions and aliases."""
    arns = [at.arn("lambda", name if name.startswith("arn:") else f"function:{name}") for name in names]
    return tuple(each for arn in arns for each in ((arn,) if arn.endswith("*") else (arn, f"{arn}:*")))


def _bucket(at: Place, name: str) -> Use:
    bucket = f"arn:{at.partition}:s3:::{name}"
    return Use("s3", OWN, {"bucket": (bucket,), "object": (f"{bucket}/*",)})


# The document


def _policy(role: str, uses: Iterable[Use]) -> Policy:
    needed: dict[tuple[str, str], set[str]] = {}
    conditions: dict[str, Mapping[str, Any]] = {}
    for action, resource, condition in [one for use in uses for one in _allowed(use)]:
        key = msgspec.json.encode(condition, order="sorted").decode()
        conditions[key] = condition
        needed.setdefault((action, key), set()).add(resource)
    statements: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for (action, key), resources in sorted(needed.items()):
        narrowed = (ANY,) if ANY in resources else tuple(sorted(resources))
        statements.setdefault((narrowed, key), []).append(action)
    made = [_statement(actions, resources, conditions[key]) for (resources, key), actions in statements.items()]
    notes = dict.fromkeys(note for use in uses for note in use.notes)
    return Policy(role, {"Version": "2012-10-17", "Statement": made}, tuple(notes))


def _statement(actions: list[str], resources: tuple[str, ...], condition: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"Effect": "Allow", "Action": actions}
    found["Resource"] = resources[0] if resources == (ANY,) else list(resources)
    return found | ({"Condition": dict(condition)} if condition else {})


def _allowed(use: Use) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Actions, each with a resource and a condition."""
    if use.feature == "roles":
        yield from (("sts:AssumeRole", role, {}) for role in use.resources["role"])
        return
    for right in FEATURES[use.feature]:
        for name in right.actions:
            yield from ((name, arn, _filled(right.only, use)) for arn in _on(right.kind, use))
    for also in ALSO.get(use.feature, ()):
        yield from ((also.action, arn, _filled(also.only, use)) for arn in _on(also.kind, use))


def _on(kind: str, use: Use) -> tuple[str, ...]:
    return (ANY,) if kind == ANY else use.resources[kind]


def _filled(only: Mapping[str, Mapping[str, str]], use: Use) -> dict[str, Any]:
    def filled(value: str) -> str:
        return use.resources[value[1:-1]][0] if value.startswith("{") else value

    return {test: {key: filled(value) for key, value in keys.items()} for test, keys in only.items()}
