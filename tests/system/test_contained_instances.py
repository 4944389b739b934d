"""Instances of Auto Scaling groups in the lab as containers, where there is a Docker engine."""

import tempfile
from pathlib import Path

import pytest
from tests.system.conftest import usable

from shiftwork_coordinator.demo import fleet_stage
from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab import docker_cli, lifecycle
from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.lifecycle import wait_until


def containers(lab):
    filters = ["--filter", f"label={docker_cli.label(lab.name)}"]
    return set(docker_cli.docker("ps", "--all", "--format", "{{.Names}}", *filters).split())


@pytest.mark.docker
def test_an_instance_is_a_container_that_is_deployed_to_and_goes_with_its_group() -> None:
    usable("docker")
    with tempfile.TemporaryDirectory(prefix="sw-") as name:
        lab = lifecycle.aws_up(Path(name, "lab"), print, contained=True)
        try:
            scene = fleet_stage.prepared(Stage(lab, print, None), 1)
            [instance] = fleet_sample.groups(lab)[0]["Instances"]
            first = f"{lab.name}-{instance['InstanceId']}"
            assert containers(lab) == {first}
            assert scene.deploy("v2")["status"] == "Succeeded"
            api = client(lab, "autoscaling")
            end = {"InstanceId": instance["InstanceId"], "ShouldDecrementDesiredCapacity": False}
            api.terminate_instance_in_auto_scaling_group(**end)
            wait_until(lambda: len(containers(lab) - {first}) == 1 and first not in containers(lab), "another", print)
        finally:
            lifecycle.down(lab)
        assert not containers(lab)
