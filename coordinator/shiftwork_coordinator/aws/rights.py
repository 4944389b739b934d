"""Which operations of AWS each feature calls, and what IAM lets each of them be narrowed to. The only such table.

`tests/docs/test_rights.py` compares it with the operations that the source names: an operation that is called and not
listed fails there, and so does one that is listed and not called.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shiftwork_coordinator.aws.errors import action

ANY = "*"
"""IAM narrows the action to nothing."""


class Right(msgspec.Struct, frozen=True):
    """`kind`: of the resource that the action can be narrowed to, as in its ARN. `only` is IAM's Condition, in which
    `{kind}` stands for a resource's ARN. `named`: the actions, where they are not called like the operation."""

    service: str
    operation: str
    kind: str = ANY
    only: Mapping[str, Mapping[str, str]] = {}
    named: tuple[str, ...] = ()

    @property
    def actions(self) -> tuple[str, ...]:
        return self.named or (action(self.service, self.operation),)


class Also(msgspec.Struct, frozen=True):
    """An action that AWS wants allowed beside those of the operations that are called."""

    action: str
    kind: str = ANY
    only: Mapping[str, Mapping[str, str]] = {}


def _all(service: str, kind: str, *operations: str) -> tuple[Right, ...]:
    return tuple(Right(service, operation, kind) for operation in operations)


FEATURES: Mapping[str, tuple[Right, ...]] = {
    "elbv2": (
        *_all("elbv2", "targetgroup", "register_targets", "deregister_targets"),
        *_all("elbv2", ANY, "describe_target_groups", "describe_target_group_attributes", "describe_target_health"),
        *_all("elbv2", ANY, "describe_load_balancers", "describe_load_balancer_attributes"),
    ),
    "elb": (
        *_all("elb", "loadbalancer", "register_instances_with_load_balancer"),
        *_all("elb", "loadbalancer", "deregister_instances_from_load_balancer"),
        *_all("elb", ANY, "describe_load_balancers", "describe_load_balancer_attributes", "describe_instance_health"),
    ),
    "ec2": _all("ec2", ANY, "describe_instances"),
    "ec2.terminate": _all("ec2", "instance", "terminate_instances"),
    "autoscaling": _all("autoscaling", ANY, "describe_auto_scaling_groups"),
    "autoscaling.suspend": (
        *_all("autoscaling", "autoScalingGroup", "suspend_processes", "resume_processes"),
        *_all("autoscaling", "autoScalingGroup", "create_or_update_tags", "delete_tags"),
    ),
    "autoscaling.hooks": (
        *_all("autoscaling", ANY, "describe_lifecycle_hooks"),
        *_all("autoscaling", "autoScalingGroup", "put_lifecycle_hook", "delete_lifecycle_hook"),
        *_all("autoscaling", "autoScalingGroup", "complete_lifecycle_action", "record_lifecycle_action_heartbeat"),
    ),
    "autoscaling.queue": _all("sqs", "queue", "get_queue_url", "receive_message", "delete_message"),
    "autoscaling.told": (),
    "blue_green": (
        *_all("autoscaling", ANY, "describe_auto_scaling_groups", "describe_scaling_activities", "describe_policies"),
        *_all("autoscaling", ANY, "describe_scheduled_actions", "describe_lifecycle_hooks"),
        *_all("autoscaling", ANY, "describe_notification_configurations", "describe_instance_refreshes"),
        *_all("autoscaling", "autoScalingGroup", "suspend_processes", "resume_processes"),
        *_all("autoscaling", "autoScalingGroup", "create_or_update_tags", "delete_tags"),
        *_all("autoscaling", "autoScalingGroup", "update_auto_scaling_group", "set_instance_protection"),
        *_all("autoscaling", "autoScalingGroup", "attach_load_balancer_target_groups", "attach_load_balancers"),
        *_all("autoscaling", "autoScalingGroup", "detach_load_balancer_target_groups", "detach_load_balancers"),
        *_all("autoscaling", "autoScalingGroup", "detach_traffic_sources"),
    ),
    "blue_green.copy": (
        *_all("autoscaling", ANY, "describe_account_limits"),
        *_all("autoscaling", "autoScalingGroup", "create_auto_scaling_group", "delete_auto_scaling_group"),
        *_all("autoscaling", "autoScalingGroup", "put_scaling_policy", "put_scheduled_update_group_action"),
        *_all("autoscaling", "autoScalingGroup", "put_lifecycle_hook", "put_notification_configuration"),
        *_all("autoscaling", "autoScalingGroup", "enable_metrics_collection", "put_warm_pool"),
    ),
    "blue_green.shift": (
        *_all("elbv2", ANY, "describe_listeners", "describe_rules", "describe_target_groups", "describe_target_health"),
        *_all("elbv2", "listener", "modify_listener"),
        *_all("elbv2", "listener-rule", "modify_rule"),
    ),
    "ecs": (
        *_all("ecs", "service", "describe_services", "update_service_primary_task_set"),
        *_all("ecs", "service", "tag_resource", "untag_resource"),
        *_all("ecs", "task-set", "create_task_set", "delete_task_set"),
        *_all("ecs", ANY, "describe_task_definition"),
        Right("ecs", "list_tasks", only={"ArnEquals": {"ecs:cluster": "{cluster}"}}),
        *_all("ecs", "task", "describe_tasks"),
        *_all("elbv2", ANY, "describe_listeners", "describe_rules", "describe_target_health"),
        *_all("elbv2", "listener", "modify_listener"),
        *_all("elbv2", "listener-rule", "modify_rule"),
        *_all("application-autoscaling", ANY, "describe_scalable_targets"),
        *_all("application-autoscaling", "scalable-target", "register_scalable_target"),
    ),
    "lambda": (
        *_all("lambda", "function", "get_alias", "update_alias", "get_function_configuration"),
        *_all("lambda", "function", "list_versions_by_function", "get_provisioned_concurrency_config"),
    ),
    "hooks": _all("lambda", "hook", "invoke"),
    # Composite alarms are told only to those who may describe all alarms.
    "alarms": _all("cloudwatch", ANY, "describe_alarms"),
    "triggers": _all("sns", "topic", "publish"),
    "s3": (
        Right("s3", "get_object", "object", named=("s3:GetObject", "s3:GetObjectVersion")),
        # It needs the same; without the right to list the bucket, what is not there looks forbidden.
        Right("s3", "head_object", "bucket", named=("s3:ListBucket",)),
    ),
    "code": _all("lambda", "function", "update_function_code"),
    "stacks": _all("cloudformation", "stack", "describe_stacks", "list_stack_resources"),
}

ALSO: Mapping[str, tuple[Also, ...]] = {
    "ecs": (Also("iam:PassRole", "passed", {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}),),
    "autoscaling.told": (
        Also("iam:PassRole", "passed", {"StringEquals": {"iam:PassedToService": "autoscaling.amazonaws.com"}}),
    ),
    # Whoever makes a group with a launch template must be allowed what the template does.
    "blue_green.copy": (
        Also("ec2:RunInstances"),
        Also("ec2:CreateTags", only={"StringEquals": {"ec2:CreateAction": "RunInstances"}}),
        Also("iam:PassRole", "passed", {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
    ),
}
