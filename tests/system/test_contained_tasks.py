"""Tasks of ECS services in the lab as containers, where there is a Docker engine."""

import urllib.request

import pytest
from tests.system.conftest import usable

from shiftwork_coordinator.lab import docker_cli, image
from shiftwork_coordinator.lab.aws.containers.running import TaskProcesses
from shiftwork_coordinator.lab.aws.containers.task import Container
from shiftwork_coordinator.lab.lifecycle import wait_until
from shiftwork_coordinator.lab.ports import free_address

LAB = "shiftwork-lab-contained"


def answers(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@pytest.mark.docker
async def test_a_task_is_a_container_that_serves_and_ends_when_asked(tmp_path) -> None:
    usable("docker")
    tasks = TaskProcesses(tmp_path, image.ensure(print), LAB)
    address = free_address("127.78", 8080)
    made = Container("arn:aws:ecs:us-east-1:1:task-definition/web:1", "app", "web:v7", (), {"COLOUR": "green"}, 8080)
    try:
        running = await tasks.start(made, address)
        wait_until(lambda: "v7" in answers(f"http://{address}:8080/"), "the task to serve", print, within=120.0)
        assert docker_cli.docker("ps", "-q", "--filter", f"label={docker_cli.label(LAB)}")
        running.stop()
        assert await running.ended() in (0, 143)
        assert not docker_cli.docker("ps", "-q", "--filter", f"label={docker_cli.label(LAB)}")
    finally:
        await tasks.close()
        docker_cli.remove_all(docker_cli.label(LAB))
