"""The driver for target groups under real requests: AWS's stand-in carries them to targets by health that it checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.drivers.conftest import INSTANCES, App, free_port, until
from tests.drivers.elb_account import client

from shiftwork_coordinator.balancers import connect
from shiftwork_coordinator.lab.aws.balancing import health
from shiftwork_coordinator.lab.aws.standin import running
from shiftwork_coordinator.ports import LoadBalancer, Server, TrafficState
from shiftwork_coordinator.testing import MemoryGates

S = TrafficState


class Shop:
    """Four applications behind a listener. Requests are sent until `over`; those that fail are kept."""

    def __init__(self, url: str, driver: LoadBalancer, apps: dict[str, App]) -> None:
        self.url, self.driver, self.apps = url, driver, apps
        self.servers = [Server(name, name, app.address, app.port) for name, app in apps.items()]
        self.sent, self.failed, self.over = 0, list[object](), False

    async def requests(self) -> None:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            while not self.over:
                self.sent += 1
                group.create_task(self._one(session))
                await asyncio.sleep(0.01)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(f"{self.url}/work") as got:
                if got.status != 200:
                    self.failed.append(got.status)
        except aiohttp.ClientError as err:
            self.failed.append(err)

    async def reach(self, state: TrafficState, *servers: Server) -> None:
        async def reached() -> bool:
            return {one.state for one in (await self.driver.states(servers)).values()} == {state}

        await until(reached, f"{[server.instance for server in servers]} {state}")


@pytest.fixture
async def shop(aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    port = free_port([f"127.77.0.{n}" for n in range(1, 5)])
    apps = {name: App(name, f"127.77.0.{n}", port) for n, name in enumerate(INSTANCES, 1)}
    async with running(aws.url, tmp_path, seed=7) as standin:
        monkeypatch.setenv("AWS_ENDPOINT_URL", standin.url)
        standin.balancing.targets.settings = health.Settings(check_every=0.05)
        listener = await asyncio.to_thread(_made, standin.url, port)
        for app in apps.values():
            await app.start()
        found = Shop(
            standin.balancing.routes()[listener], connect("elbv2", {"target_group": "web"}, MemoryGates()), apps
        )
        await found.driver.register(found.servers)
        await found.reach(S.HEALTHY, *found.servers)
        yield found
        for app in apps.values():
            await app.stop()


def _made(url: str, port: int) -> str:
    import boto3

    ec2, elb = client("ec2"), boto3.client("elbv2", endpoint_url=url)
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    balancer = elb.create_load_balancer(Name="web", Subnets=[subnet])["LoadBalancers"][0]["LoadBalancerArn"]
    told = elb.create_target_group(
        Name="web", Protocol="HTTP", Port=port, VpcId=vpc, TargetType="ip", HealthCheckPath="/health"
    )
    group = told["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "1"}
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
    action = {"Type": "forward", "TargetGroupArn": group}
    made = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[action])
    return str(made["Listeners"][0]["ListenerArn"])


async def test_half_and_then_the_other_half_without_a_failed_request(shop: Shop) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(shop.requests())
        for batch in (shop.servers[:2], shop.servers[2:]):
            await shop.driver.deregister(batch)
            await shop.reach(S.DRAINING, *batch)
            await shop.reach(S.ABSENT, *batch)
            apps = [shop.apps[server.instance] for server in batch]
            before = [app.hits for app in apps]
            for app in apps:
                await app.stop()
                app.cold = True
                await app.start()
            await shop.driver.register(batch)
            checked = [app.checked for app in apps]

            async def looked(apps: Any = apps, checked: Any = checked) -> bool:
                return all(app.checked >= n + 3 for app, n in zip(apps, checked, strict=True))

            await until(looked, "the cold applications were checked")
            assert S.HEALTHY not in {one.state for one in (await shop.driver.states(batch)).values()}
            assert [app.hits for app in apps] == before
            for app in apps:
                app.cold = False
            await shop.reach(S.HEALTHY, *batch)
        shop.over = True
    assert shop.failed == []
    assert shop.sent > 100
    assert sum(app.hits for app in shop.apps.values()) == shop.sent
