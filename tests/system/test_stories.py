"""What may happen to a fleet on a working day, with real agents, a real balancer and clients who must not notice."""

import json
import time

from shiftwork_coordinator.demo import load


def begun(target):
    return any(event["status"] not in ("Pending", "Skipped") for event in target["lifecycleEvents"])


def test_a_deployment_reaches_everybody_half_at_a_time(world):
    with world.traffic():
        view = world.deploy(world.revisions["v2"])
    assert view["status"] == "Succeeded"
    assert (view["batches"], view["minimumHealthyHosts"]) == (2, 2)
    assert view["minimumInService"] >= 2
    assert set(world.result.by_version) == {"v1", "v2"}
    assert set(world.installed().values()) == {"v2"}


def test_a_broken_revision_is_rolled_back_and_never_serves(world):
    before = set(world.installed().values())
    with world.traffic():
        broken = world.deploy(world.revisions["v3"])
        undone = world.rollback_of(broken["deploymentId"])
    assert (broken["status"], undone["status"]) == ("Failed", "Succeeded")
    assert undone["rollbackInfo"]["rollbackTriggeringDeploymentId"] == broken["deploymentId"]
    assert min(broken["minimumInService"], undone["minimumInService"]) >= 2
    assert "v3" not in world.result.by_version
    assert set(world.installed().values()) == before
    tails = [
        event["diagnostics"]["logTail"]
        for target in broken["targets"]
        for event in target["lifecycleEvents"]
        if event["status"] == "Failed"
    ]
    assert any("cannot read the price list" in tail for tail in tails)


def test_an_agent_killed_in_mid_hook_adopts_it(world):
    with world.traffic():
        deployment = world.begin(world.revisions["slow-1"])
        victim = world.in_hook(deployment)
        world.fault("kill", f"agent:{victim}")
        view = world.ended(deployment)
    assert view["status"] == "Succeeded"
    output = world.logs(deployment, victim, "ApplicationStart")
    assert output.count("migrating the database") == 1
    assert output.count("started slow-1") == 1


def test_a_coordinator_killed_in_mid_deployment_goes_on(world):
    with world.traffic():
        deployment = world.begin(world.revisions["slow-2"])
        world.in_hook(deployment)
        world.fault("kill", "coordinator")
        view = world.ended(deployment)
    assert view["status"] == "Succeeded"
    assert view["minimumInService"] >= 2
    assert set(world.installed().values()) == {"slow-2"}


def test_a_stop_ends_between_events_and_leaves_the_rest_alone(world):
    before = world.installed()
    with world.traffic():
        deployment = world.begin(world.revisions["slow-1"])
        world.in_hook(deployment)
        world.run("stop", deployment)
        view = world.ended(deployment)
    assert view["status"] == "Stopped"
    touched = {target["targetId"] for target in view["targets"] if begun(target)}
    untouched = {name: version for name, version in world.installed().items() if name not in touched}
    assert untouched
    assert untouched.items() <= before.items()


def test_an_operator_rolls_back_with_one_command(world):
    good = next(view["revision"]["identity"] for view in world.deployments() if view["status"] == "Succeeded")
    with world.traffic():
        latest = world.deploy(world.revisions["v2"])
        answer = json.loads(world.checked("rollback", latest["deploymentId"]))
        undone = world.ended(answer["deploymentId"])
    assert (latest["status"], undone["status"]) == ("Succeeded", "Succeeded")
    assert undone["revision"]["identity"] == good != latest["revision"]["identity"]
    assert set(world.installed().values()) == {world.names[good]}


def test_an_instance_cut_off_for_a_while_is_waited_for(world):
    with world.traffic():
        deployment = world.begin(world.revisions["slow-1"])
        victim = world.in_hook(deployment)
        world.fault("cut", victim)
        time.sleep(2.0)  # how long the outage lasts; nothing is expected of this moment
        world.fault("heal", victim)
        view = world.ended(deployment)
    assert view["status"] == "Succeeded"
    assert set(world.installed().values()) == {"slow-1"}


def test_clients_notice_when_nobody_takes_care(world):
    """The control: what the other stories promise is not promised by the balancer alone."""
    victim = world.lab.instances[0].name
    output = world.directory / "control.json"
    with load.running(world.lab.balancer_url, output) as running:
        time.sleep(1.0)  # traffic flows
        world.fault("kill", victim)
        time.sleep(2.0)  # as long as the balancer may need to find out
        result = running.stop()
    assert result.failed > 0
    world.fault("resume", victim)
