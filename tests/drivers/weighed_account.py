"""The account of `scaling_account` with a listener in front of two target groups: BLUE is the group `web`'s at first.
It is strict: no weight for what nobody is in, no checks of what no listener knows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tests.drivers.scaling_account import CPU, OTHERS, PER_TARGET, TARGETS, Account, group, refused

BLUE, GREEN = TARGETS, OTHERS
AWS = "arn:aws:elasticloadbalancing:us-east-1:1:"
LISTENER, RULE = f"{AWS}listener/app/web/1/80", f"{AWS}listener-rule/app/web/1/80/7"
LOGIN = {
    "Type": "authenticate-oidc", "Order": 1,
    "AuthenticateOidcConfig": {"Issuer": "https://login.example", "ClientId": "web"},
}  # fmt: skip


def web(name: str = "web", **fields: Any) -> dict[str, Any]:
    return group(name, **{"LoadBalancerNames": [], **fields})


class Weighed(Account):
    """`about`: the target groups, as AWS describes them; `routes`: the actions of the listener and of the rule."""

    def __init__(self, *groups: dict[str, Any], healthy: int = 3, network: bool = False) -> None:
        super().__init__(*(groups or (web(),)), healthy=healthy)
        self.network = network
        self.about = {
            arn: {"VpcId": "vpc-1", "Protocol": "HTTP", "TargetType": "instance", "Port": 80, "TargetGroupName": name}
            for arn, name in ((BLUE, "web"), (GREEN, "admin"))
        }
        forward = {"Type": "forward", "TargetGroupArn": BLUE, "Order": 2}
        self.routes: dict[str, list[Any]] = {arn: [deepcopy(LOGIN), dict(forward)] for arn in (LISTENER, RULE)}
        self.shares: list[int] = []
        self.look("web")
        self.leaks.clear()
        self.tables["web"]["policies"] = [deepcopy(CPU), deepcopy(PER_TARGET)]

    async def ask(self, service: str, operation: str, /, **given: Any) -> Any:
        return await super().ask("autoscaling", operation, **given)

    def weights(self, arn: str = LISTENER) -> dict[str, int]:
        forward = next((one for one in self.routes[arn] if one["Type"] == "forward"), {})
        groups = (forward.get("ForwardConfig") or {}).get("TargetGroups")
        if groups:
            return {one["TargetGroupArn"]: one["Weight"] for one in groups}
        return {forward["TargetGroupArn"]: 1} if forward else {}

    def share(self, target_group: str) -> int:
        """In percent."""
        weights = self.weights()
        return round(100 * weights.get(target_group, 0) / sum(weights.values()))

    # elbv2

    def describe_listeners(self, ListenerArns: list[str]) -> Any:
        if unknown := [arn for arn in ListenerArns if arn not in self.routes]:
            raise refused("ListenerNotFound", f"One or more listeners not found: {unknown}")
        protocol = "TCP" if self.network else "HTTPS"
        return {
            "Listeners": [
                {"ListenerArn": arn, "Protocol": protocol, "DefaultActions": self.routes[arn]} for arn in ListenerArns
            ]
        }

    def describe_rules(self, RuleArns: list[str]) -> Any:
        return {"Rules": [{"RuleArn": arn, "Actions": self.routes[arn]} for arn in RuleArns if arn in self.routes]}

    def modify_listener(self, ListenerArn: str, DefaultActions: list[Any]) -> None:
        self._route(ListenerArn, DefaultActions)

    def modify_rule(self, RuleArn: str, Actions: list[Any]) -> None:
        self._route(RuleArn, Actions)

    def _route(self, arn: str, actions: list[Any]) -> None:
        login, _ = actions
        assert login["AuthenticateOidcConfig"].pop("UseExistingClientSecret"), "the secret would be lost"
        self.routes[arn] = deepcopy(actions)
        weights = self.weights(arn)
        assert sum(weights.values()), "AWS takes no listener without a weight"
        for target_group, weight in weights.items():
            assert not weight or self.traffic[target_group], f"requests to nobody in {target_group}"
        self.shares.append(weights.get(GREEN, 0))

    def describe_target_groups(self, TargetGroupArns: list[str]) -> Any:
        if unknown := [arn for arn in TargetGroupArns if arn not in self.about]:
            raise refused("TargetGroupNotFound", f"One or more target groups not found: {unknown}")
        used = {arn: [f"{AWS}loadbalancer/app/web/1"] if arn in self.weights() else [] for arn in self.about}
        return {
            "TargetGroups": [
                {"TargetGroupArn": arn, "LoadBalancerArns": used[arn], **self.about[arn]} for arn in TargetGroupArns
            ]
        }

    def describe_target_group_attributes(self, TargetGroupArn: str) -> Any:
        return {"Attributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "0"}]}

    def describe_load_balancers(self, LoadBalancerArns: list[str]) -> Any:
        return {"LoadBalancers": [{"LoadBalancerName": "web", "LoadBalancerArn": arn} for arn in LoadBalancerArns]}

    def describe_load_balancer_attributes(self, LoadBalancerArn: str) -> Any:
        return {"Attributes": []}

    def describe_target_health(self, TargetGroupArn: str) -> Any:
        used = any(TargetGroupArn in self.weights(arn) for arn in self.routes)
        state = {"State": "healthy"} if used else {"State": "unused", "Reason": "Target.NotInUse"}
        return {
            "TargetHealthDescriptions": [
                {"Target": {"Id": id, "Port": 80}, "TargetHealth": state} for id in sorted(self.traffic[TargetGroupArn])
            ]
        }

    def register_targets(self, TargetGroupArn: str, Targets: list[Any]) -> None:
        self.traffic[TargetGroupArn] |= {one["Id"] for one in Targets}

    def deregister_targets(self, TargetGroupArn: str, Targets: list[Any]) -> None:
        self.traffic[TargetGroupArn] -= {one["Id"] for one in Targets}
        if self.weights().get(TargetGroupArn):
            assert self.traffic[TargetGroupArn], f"the last left {TargetGroupArn} while it has a weight"

    def put_scaling_policy(self, AutoScalingGroupName: str, **given: Any) -> None:
        """One that counts the requests of a target group takes no other than its own."""
        tracked = given.get("TargetTrackingConfiguration", {}).get("PredefinedMetricSpecification", {})
        label = tracked.get("ResourceLabel", "")
        attached = self.named(AutoScalingGroupName)["TargetGroupARNs"]
        if label and not any(label.endswith(arn.rpartition(":")[2]) for arn in attached):
            raise refused("ValidationError", f"the target group of {label} is not attached")
        self._put_in(AutoScalingGroupName, "policies", "PolicyName", given)
