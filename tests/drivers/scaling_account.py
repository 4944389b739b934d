"""An AWS account with Auto Scaling groups behind load balancers: a twin of the calls that blue/green makes, strict
where AWS is and moto is not (instances that take their time or never start, what registers them and what does not,
guarded deletions, policies that need their target group)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.resting import NOTE
from shiftwork_coordinator.shifters.scaling_pair import DELETING, MARK

READS = ("describe_", "list_")
TARGETS = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/web/1"
OTHERS = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/admin/2"
TOPIC = "arn:aws:sns:us-east-1:1:ops"
PER_TARGET = {
    "PolicyName": "requests", "PolicyType": "TargetTrackingScaling", "Enabled": False,
    "TargetTrackingConfiguration": {
        "TargetValue": 100.0,
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "ALBRequestCountPerTarget", "ResourceLabel": "app/web/1/targetgroup/web/1",
        },
    },
}  # fmt: skip
CPU = {
    "PolicyName": "cpu", "PolicyType": "TargetTrackingScaling", "Enabled": True,
    "Alarms": [{"AlarmName": "TargetTracking-web"}],
    "TargetTrackingConfiguration": {
        "TargetValue": 50.0, "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}
    },
}  # fmt: skip
STEPS = {"PolicyName": "steps", "PolicyType": "StepScaling", "Alarms": [{"AlarmName": "busy"}]}
NIGHT = {
    "ScheduledActionName": "night", "Recurrence": "0 22 * * *", "StartTime": "2020-01-01", "MinSize": 1, "MaxSize": 2,
    "DesiredCapacity": 1,
}  # fmt: skip
HOOK = {
    "LifecycleHookName": "warm-caches",
    "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
    "GlobalTimeout": 9,
}
WEB: dict[str, Any] = {
    "AutoScalingGroupName": "web", "MinSize": 2, "MaxSize": 6, "DesiredCapacity": 3, "DefaultCooldown": 300,
    "LaunchTemplate": {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web", "Version": "$Latest"},
    "VPCZoneIdentifier": "subnet-b,subnet-a", "AvailabilityZones": ["us-east-1a", "us-east-1b"],
    "HealthCheckType": "ELB", "HealthCheckGracePeriod": 60, "TerminationPolicies": ["OldestInstance"],
    "NewInstancesProtectedFromScaleIn": True, "MaxInstanceLifetime": 604800, "CapacityRebalance": True,
    "DefaultInstanceWarmup": 30, "PlacementGroup": "", "DeletionProtection": "prevent-all-deletion",
    "ServiceLinkedRoleARN": "arn:aws:iam::1:role/aws-service-role/AWSServiceRoleForAutoScaling",
    "TargetGroupARNs": [TARGETS], "LoadBalancerNames": ["classic"],
    "EnabledMetrics": [{"Metric": m, "Granularity": "1Minute"} for m in ("GroupMinSize", "GroupMaxSize")],
    "WarmPoolConfiguration": {"MinSize": 1, "PoolState": "Stopped", "MaxGroupPreparedCapacity": 4},
}  # fmt: skip
TAGS = (("Role", "web", True), ("aws:cloudformation:stack-name", "stack", True), ("Owner", "ops", False))


def refused(code: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, code=code)


def group(name: str, **fields: Any) -> dict[str, Any]:
    tags = [{"Key": key, "Value": value, "PropagateAtLaunch": spread} for key, value, spread in TAGS]
    made = deepcopy(WEB) | {"AutoScalingGroupName": name, "Tags": tags, "Instances": [], "SuspendedProcesses": []}
    return made | fields


class Account:
    """`launch_after`: how often a group is looked at before an instance is in service. `fails`: why none ever starts.
    `denied`: operations that are refused. `lost_at`: which change is made but its answer lost. `leaks`: instances that
    AWS by itself sent requests to. `cut`: those terminated while requests were sent to them. `judges`: it calls
    unhealthy, for good, what a load balancer of the group does not send to."""

    def __init__(self, *groups: dict[str, Any], healthy: int = 3) -> None:
        self.made = 0
        self.groups: dict[str, dict[str, Any]] = {}
        self.traffic: dict[str, set[str]] = {TARGETS: set(), OTHERS: set(), "classic": set()}
        self.tables: dict[str, dict[str, list[Any]]] = {}
        self.activities: dict[str, list[Any]] = {}
        self.launch_after, self.fails, self.quota = 0, "", 500
        self.judges = False
        self.refreshes: list[str] = []
        self.denied: set[str] = set()
        self.changes: list[str] = []
        self.reads: list[str] = []
        self.lost_at = 0
        self.leaks: list[str] = []
        self.cut: list[str] = []
        for one in groups or (group("web"),):
            self._put(one)
            self._scale(one["AutoScalingGroupName"])
        for one in next(iter(self.groups.values()))["Instances"][healthy:]:
            one["HealthStatus"] = "Unhealthy"
        self.leaks.clear()

    def _put(self, one: dict[str, Any]) -> None:
        name = one["AutoScalingGroupName"]
        self.groups[name], self.activities[name] = one, []
        self.tables[name] = {"policies": [], "scheduled": [], "hooks": [], "notifications": []}

    async def ask(self, service: str, operation: str, /, **given: Any) -> Any:
        assert service == "autoscaling"
        if operation in self.denied:
            raise refused("IAM_ROLE_PERMISSIONS", f"cannot call autoscaling:{operation}: not allowed")
        if operation.startswith(READS):
            self.reads.append(operation)
            return deepcopy(getattr(self, operation)(**given))
        answer = getattr(self, operation)(**given)
        self.changes.append(operation)
        if len(self.changes) == self.lost_at:
            raise Unavailable("the connection was cut")
        return answer

    def named(self, name: str) -> dict[str, Any]:
        found = self.groups.get(name)
        if found is None or found.get("Status"):
            raise refused("ValidationError", f"AutoScalingGroup name not found - {name}")
        return found

    # Instances

    def resting(self, name: str) -> set[str]:
        return {one["ProcessName"] for one in self.groups[name]["SuspendedProcesses"]}

    def _scale(self, name: str) -> None:
        one = self.groups[name]
        here = [i for i in one["Instances"] if not i["LifecycleState"].startswith("Terminating")]
        missing = one["DesiredCapacity"] - len(here)
        if missing > 0 and "Launch" not in self.resting(name):
            for _ in range(missing):
                self._launch(name)
        free = [i for i in here if not i.get("ProtectedFromScaleIn")]
        for instance in free[: max(0, -missing)] if "Terminate" not in self.resting(name) else []:
            self._terminate(name, instance)

    def _launch(self, name: str) -> None:
        self.made += 1
        if self.fails:
            return self._activity(name, "Failed", self.fails)
        self.groups[name]["Instances"].append({
            "InstanceId": f"i-{self.made:08}", "LifecycleState": "Pending", "HealthStatus": "Healthy", "looks": 0,
            "ProtectedFromScaleIn": bool(self.groups[name].get("NewInstancesProtectedFromScaleIn")),
        })  # fmt: skip
        return None

    def _terminate(self, name: str, instance: dict[str, Any]) -> None:
        self._take_out(instance["InstanceId"])
        self._end(name, instance)

    def _take_out(self, id: str) -> None:
        if any(id in ids for ids in self.traffic.values()):
            self.cut.append(id)
        for ids in self.traffic.values():
            ids.discard(id)

    def _end(self, name: str, instance: dict[str, Any]) -> None:
        self.groups[name]["Instances"].remove(instance)
        self._activity(name, "Successful", "")

    def _activity(self, name: str, status: str, why: str) -> None:
        self.made += 1
        self.activities[name].insert(
            0, {"ActivityId": f"a-{self.made}", "StatusCode": status, "StatusMessage": why, "Description": "Launching"}
        )

    def look(self, name: str) -> None:
        """What happens meanwhile."""
        one = self.groups[name]
        for instance in one["Instances"]:
            instance["looks"] += 1
            if instance["LifecycleState"] == "Pending" and instance["looks"] > self.launch_after:
                instance["LifecycleState"] = "InService"
                self._activity(name, "Successful", "")
                self._register(name, [instance["InstanceId"]])
        if self.judges:
            self._judge(name)
        if self.fails and len(one["Instances"]) < one["DesiredCapacity"]:
            self._launch(name)

    def _judge(self, name: str) -> None:
        one = self.groups[name]
        for i in [i for i in one["Instances"] if i["LifecycleState"] == "InService"]:
            sent_to = all(i["InstanceId"] in self.traffic[b] for b in one["TargetGroupARNs"] + one["LoadBalancerNames"])
            if not sent_to and "HealthCheck" not in self.resting(name):
                i["HealthStatus"] = "Unhealthy"
            if i["HealthStatus"] == "Unhealthy" and "ReplaceUnhealthy" not in self.resting(name):
                self._terminate(name, i)
        self._scale(name)

    def _register(self, name: str, ids: list[str]) -> None:
        if "AddToLoadBalancer" in self.resting(name):
            return
        one = self.groups[name]
        for balancer in one["TargetGroupARNs"] + one["LoadBalancerNames"]:
            self.leaks += [i for i in ids if i not in self.traffic[balancer]]
            self.traffic[balancer] |= set(ids)

    def move(self, there: list[str], gone: list[str]) -> None:
        """What the load balancers' drivers do."""
        for ids in (self.traffic[TARGETS], self.traffic["classic"]):
            ids |= set(there)
            ids -= set(gone)

    def ids(self, name: str) -> list[str]:
        return [one["InstanceId"] for one in self.groups[name]["Instances"]]

    # Groups

    def describe_auto_scaling_groups(self, AutoScalingGroupNames: list[str], MaxRecords: int = 100) -> Any:
        assert MaxRecords <= 100
        for name in [one for one in AutoScalingGroupNames if one in self.groups]:
            self.look(name)
            if self.groups[name].get("Status") and self.groups[name]["gone_after"] <= 0:
                del self.groups[name]
            elif self.groups[name].get("Status"):
                self.groups[name]["gone_after"] -= 1
        return {"AutoScalingGroups": [self.groups[name] for name in AutoScalingGroupNames if name in self.groups]}

    def create_auto_scaling_group(self, **given: Any) -> None:
        name = given["AutoScalingGroupName"]
        if name in self.groups:
            raise refused("AlreadyExists", "AutoScalingGroup by this name already exists")
        assert not {"LaunchTemplateId", "LaunchTemplateName"} <= set(given.get("LaunchTemplate", {})), "one of them"
        assert not any(tag["Key"].startswith("aws:") for tag in given["Tags"]), "reserved"
        assert given["DesiredCapacity"] == 0, "nothing is launched before its processes rest"
        made = {key: value for key, value in given.items() if key != "Tags"}
        attached = {"TargetGroupARNs": [], "LoadBalancerNames": [], "EnabledMetrics": []}
        zones = {"AvailabilityZones": ["us-east-1a", "us-east-1b"], "PlacementGroup": "", "DeletionProtection": "none"}
        role = {"ServiceLinkedRoleARN": WEB["ServiceLinkedRoleARN"]}
        tags = [{k: v for k, v in one.items() if not k.startswith("Resource")} for one in given["Tags"]]
        self._put({"Instances": [], "SuspendedProcesses": [], **attached, **zones, **role, **made, "Tags": tags})

    def update_auto_scaling_group(self, AutoScalingGroupName: str, **given: Any) -> None:
        one = self.named(AutoScalingGroupName)
        wanted = {key: given.get(key, one[key]) for key in ("MinSize", "MaxSize", "DesiredCapacity")}
        if "DesiredCapacity" not in given:
            wanted["DesiredCapacity"] = max(wanted["DesiredCapacity"], wanted["MinSize"])
        if not wanted["MinSize"] <= wanted["DesiredCapacity"] <= wanted["MaxSize"]:
            raise refused("ValidationError", f"Desired capacity must be between the limits: {wanted}")
        one |= given | wanted
        self._scale(AutoScalingGroupName)

    def delete_auto_scaling_group(self, AutoScalingGroupName: str, ForceDelete: bool = False) -> None:
        one = self.named(AutoScalingGroupName)
        if one.get("DeletionProtection", "none") != "none":
            raise refused("ResourceInUse", "deletion protection is on")
        if one["Instances"] and not ForceDelete:
            raise refused("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances")
        for instance in list(one["Instances"]):
            self._terminate(AutoScalingGroupName, instance)
        one |= {"Status": DELETING, "gone_after": 1}

    def set_instance_protection(
        self, AutoScalingGroupName: str, InstanceIds: list[str], ProtectedFromScaleIn: bool
    ) -> None:
        assert 0 < len(InstanceIds) <= 50
        for one in self.named(AutoScalingGroupName)["Instances"]:
            if one["InstanceId"] in InstanceIds:
                one["ProtectedFromScaleIn"] = ProtectedFromScaleIn

    def describe_scaling_activities(self, AutoScalingGroupName: str, MaxRecords: int) -> Any:
        return {"Activities": self.activities[AutoScalingGroupName][:MaxRecords]}

    def describe_instance_refreshes(self, AutoScalingGroupName: str, MaxRecords: int) -> Any:
        return {"InstanceRefreshes": [{"InstanceRefreshId": "r-1", "Status": one} for one in self.refreshes]}

    def describe_account_limits(self) -> Any:
        return {"MaxNumberOfAutoScalingGroups": self.quota, "NumberOfAutoScalingGroups": len(self.groups)}

    # Processes and tags

    def suspend_processes(self, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> None:
        one = self.named(AutoScalingGroupName)
        rest = self.resting(AutoScalingGroupName) | set(ScalingProcesses)
        one["SuspendedProcesses"] = [{"ProcessName": process} for process in sorted(rest)]

    def resume_processes(self, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> None:
        assert ScalingProcesses, "an empty list would mean all of them"
        one, rest = self.named(AutoScalingGroupName), self.resting(AutoScalingGroupName) - set(ScalingProcesses)
        assert set(self.note(AutoScalingGroupName)[1:]) >= set(ScalingProcesses), "what is resumed was noted"
        one["SuspendedProcesses"] = [{"ProcessName": process} for process in sorted(rest)]
        self._scale(AutoScalingGroupName)

    def note(self, name: str, key: str = NOTE) -> list[str]:
        return next((tag["Value"].split() for tag in self.groups[name]["Tags"] if tag["Key"] == key), [])

    def create_or_update_tags(self, Tags: list[dict[str, Any]]) -> None:
        for tag in Tags:
            one = self.named(tag["ResourceId"])
            kept = [old for old in one["Tags"] if old["Key"] != tag["Key"]]
            one["Tags"] = [*kept, {key: tag[key] for key in ("Key", "Value", "PropagateAtLaunch")}]

    def delete_tags(self, Tags: list[dict[str, Any]]) -> None:
        for tag in Tags:
            one = self.named(tag["ResourceId"])
            one["Tags"] = [old for old in one["Tags"] if old["Key"] != tag["Key"]]

    # Load balancers

    def attach_load_balancer_target_groups(self, AutoScalingGroupName: str, TargetGroupARNs: list[str]) -> None:
        self._attach(AutoScalingGroupName, "TargetGroupARNs", TargetGroupARNs)

    def attach_load_balancers(self, AutoScalingGroupName: str, LoadBalancerNames: list[str]) -> None:
        self._attach(AutoScalingGroupName, "LoadBalancerNames", LoadBalancerNames)

    def _attach(self, name: str, key: str, names: list[str]) -> None:
        assert 0 < len(names) <= 10
        self.named(name)[key] += [one for one in names if one not in self.named(name)[key]]
        self._register(name, self.ids(name))

    def detach_load_balancer_target_groups(self, AutoScalingGroupName: str, TargetGroupARNs: list[str]) -> None:
        self._detach(AutoScalingGroupName, "TargetGroupARNs", TargetGroupARNs)

    def detach_load_balancers(self, AutoScalingGroupName: str, LoadBalancerNames: list[str]) -> None:
        self._detach(AutoScalingGroupName, "LoadBalancerNames", LoadBalancerNames)

    def detach_traffic_sources(self, AutoScalingGroupName: str, TrafficSources: list[dict[str, str]]) -> None:
        gone = [one["Identifier"] for one in TrafficSources]
        one = self.named(AutoScalingGroupName)
        one["TrafficSources"] = [source for source in one["TrafficSources"] if source["Identifier"] not in gone]

    def _detach(self, name: str, key: str, names: list[str]) -> None:
        one = self.named(name)
        one[key] = [other for other in one[key] if other not in names]
        for balancer in names:
            self.traffic[balancer] -= set(self.ids(name))

    # What hangs on a group

    def describe_policies(self, AutoScalingGroupName: str, NextToken: str = "0") -> Any:
        """One a page."""
        table, at = self.tables[AutoScalingGroupName]["policies"], int(NextToken)
        more = {"NextToken": str(at + 1)} if at + 1 < len(table) else {}
        return {"ScalingPolicies": table[at : at + 1], **more}

    def put_scaling_policy(self, AutoScalingGroupName: str, **given: Any) -> None:
        tracked = given.get("TargetTrackingConfiguration", {}).get("PredefinedMetricSpecification", {})
        if "ResourceLabel" in tracked and TARGETS not in self.named(AutoScalingGroupName)["TargetGroupARNs"]:
            raise refused("ValidationError", "the target group is not attached")
        self._put_in(AutoScalingGroupName, "policies", "PolicyName", given)

    def describe_scheduled_actions(self, AutoScalingGroupName: str) -> Any:
        return {"ScheduledUpdateGroupActions": self.tables[AutoScalingGroupName]["scheduled"]}

    def put_scheduled_update_group_action(self, AutoScalingGroupName: str, **given: Any) -> None:
        if given.get("StartTime", "9999") < "2026":
            raise refused("ValidationError", "Given start time is in the past")
        self._put_in(AutoScalingGroupName, "scheduled", "ScheduledActionName", {"StartTime": "2031-01-01", **given})

    def describe_lifecycle_hooks(self, AutoScalingGroupName: str) -> Any:
        return {"LifecycleHooks": self.tables[AutoScalingGroupName]["hooks"]}

    def put_lifecycle_hook(self, AutoScalingGroupName: str, **given: Any) -> None:
        assert "GlobalTimeout" not in given, "AWS tells it, and does not take it"
        self._put_in(AutoScalingGroupName, "hooks", "LifecycleHookName", given | {"GlobalTimeout": 9})

    def describe_notification_configurations(self, AutoScalingGroupNames: list[str]) -> Any:
        return {"NotificationConfigurations": self.tables[AutoScalingGroupNames[0]]["notifications"]}

    def put_notification_configuration(
        self, AutoScalingGroupName: str, TopicARN: str, NotificationTypes: list[str]
    ) -> None:
        self.notify(AutoScalingGroupName, TopicARN, *NotificationTypes)

    def notify(self, name: str, topic: str, *types: str) -> None:
        rows = self.tables[name]["notifications"]
        rows[:] = [row for row in rows if row["TopicARN"] != topic]
        rows += [{"TopicARN": topic, "NotificationType": one, "AutoScalingGroupName": name} for one in types]

    def enable_metrics_collection(self, AutoScalingGroupName: str, Granularity: str, Metrics: list[str]) -> None:
        found = [{"Metric": one, "Granularity": Granularity} for one in Metrics]
        self.named(AutoScalingGroupName)["EnabledMetrics"] = found

    def put_warm_pool(self, AutoScalingGroupName: str, **given: Any) -> None:
        self.named(AutoScalingGroupName)["WarmPoolConfiguration"] = given | {"Status": None}

    def _put_in(self, name: str, table: str, key: str, given: dict[str, Any]) -> None:
        self.named(name)
        rows = self.tables[name][table]
        rows[:] = [*(row for row in rows if row[key] != given[key]), given]

    # For assertions

    def stands(self) -> dict[str, Any]:
        """The groups that are not being deleted: sizes, instances, what rests, load balancers, notes."""
        return {
            name: {
                "sizes": [one["MinSize"], one["MaxSize"], one["DesiredCapacity"]],
                "instances": len(one["Instances"]),
                "rests": sorted(self.resting(name)),
                "attached": [*one["TargetGroupARNs"], *one["LoadBalancerNames"]],
                "notes": [key for key in (NOTE, MARK) if self.note(name, key)],
                "protected": one.get("DeletionProtection", "none") != "none",
            }
            for name, one in self.groups.items()
            if not one.get("Status")
        }

    def serving(self) -> dict[str, list[str]]:
        """Whose instances get requests, by load balancer."""
        of = {i: name for name, one in self.groups.items() for i in self.ids(name)}
        return {balancer: sorted({of.get(i, "nobody") for i in ids}) for balancer, ids in self.traffic.items() if ids}


def furnished(account: Account) -> Account:
    """With everything that hangs on the group `web`."""
    table = account.tables["web"]
    table["policies"], table["scheduled"] = [deepcopy(CPU), deepcopy(PER_TARGET)], [deepcopy(NIGHT)]
    mine = {"LifecycleHookName": "shiftwork-launch", "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING"}
    table["hooks"] = [deepcopy(HOOK), mine]
    account.notify("web", TOPIC, "autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_TERMINATE")
    return account


def with_moto(real: Ask) -> Ask:
    """moto does not know notifications, quotas and refreshes."""

    async def ask(service: str, operation: str, /, **given: Any) -> Any:
        if operation == "describe_notification_configurations":
            return {"NotificationConfigurations": []}
        unknown = operation in ("describe_account_limits", "describe_instance_refreshes")
        return {} if unknown else await real(service, operation, **given)

    return ask
