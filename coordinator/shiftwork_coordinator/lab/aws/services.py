"""The services of which the stand-in knows more than moto, in one table. A further one is one line here."""

from __future__ import annotations

from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.containers.ecs import Services
from shiftwork_coordinator.lab.aws.exchange import Handler
from shiftwork_coordinator.lab.aws.fleets.autoscaling import ScalingGroups
from shiftwork_coordinator.lab.aws.fleets.ec2 import Ec2
from shiftwork_coordinator.lab.aws.functions import Functions
from shiftwork_coordinator.lab.aws.metrics import Metrics


def table(
    functions: Functions,
    metrics: Metrics,
    balancing: Balancing,
    containers: Services,
    groups: ScalingGroups,
    instances: Ec2,
) -> dict[tuple[str, str], Handler]:
    """(service, operation) -> who answers; everything else is moto's."""
    every = (functions, metrics, balancing, containers, groups, instances)
    return {key: handler for service in every for key, handler in service.handlers().items()}
