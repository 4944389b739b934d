"""The samples of docs/load-balancers.md load in the real balancers, and every setting has its row."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from shiftwork_coordinator.balancers import caddy, caddy_config, elb, elbv2, gate, haproxy
from shiftwork_coordinator.balancers.gate import GatePoint

PAGE = Path(__file__).parents[2] / "docs" / "load-balancers.md"


def sample(name: str) -> str:
    found = re.search(rf"<!-- sample: {name} -->\n```\w+\n(.*?)```", PAGE.read_text(), re.S)
    assert found, f"no sample {name} in {PAGE}"
    return found[1]


def binary(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        message = f"{name} is not installed: apt install {name}"
        if os.environ.get("CI") or os.environ.get("SHIFTWORK_REQUIRE_DOCKER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


async def run(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"HOME": "/tmp", **os.environ}
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_haproxy_sample_loads(tmp_path: Path) -> None:
    text = sample("haproxy")
    (tmp_path / "haproxy.cfg").write_text(text.replace("/run/haproxy/", f"{tmp_path}/"))
    await run(binary("haproxy"), "-c", "-f", str(tmp_path / "haproxy.cfg"))
    assert "fastinter 200ms downinter 200ms" in text


async def test_the_caddy_sample_loads_and_asks_the_gate(tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(sample("caddy"))
    adapted = await run(binary("caddy"), "adapt", "--config", str(tmp_path / "Caddyfile"))
    proxies = caddy_config.proxies(json.loads(adapted))
    assert proxies[0].passive
    needed = caddy_config.needed(proxies, "10.0.0.11:8080", GatePoint())
    assert needed is not None
    assert needed.closed_for == 3.0


@pytest.mark.parametrize("module", [haproxy, caddy, gate, elbv2, elb])
def test_every_setting_has_a_row(module: object) -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    settings: type[msgspec.Struct] = module.Settings  # type: ignore[attr-defined]
    assert {field.name for field in msgspec.structs.fields(settings)} - named == set()
