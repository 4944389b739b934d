"""What is not documented fails here: every route with its auth class, every setting, every link in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from shiftwork_agent.config import Config
from shiftwork_coordinator.api.routes import table
from shiftwork_coordinator.model.parameters import Parameter
from shiftwork_coordinator.model.settings import (
    Alarms,
    Aws,
    BlueGreen,
    ConfigSettings,
    Ecs,
    FunctionHooks,
    GroupSettings,
    Health,
    Instances,
    Limits,
    Originals,
    Quiet,
    Ready,
)

ROOT = Path(__file__).parents[2]
NESTED = {
    "instances": Instances,
    "aws": Aws,
    "blue_green": BlueGreen,
    "hooks": FunctionHooks,
    "alarms": Alarms,
    "quiet": Quiet,
    "ecs": Ecs,
    "ready": Ready,
    "originals": Originals,
    "limits": Limits,
}


def test_every_route_stands_in_the_table_with_its_auth_class() -> None:
    text = (ROOT / "docs/api.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for route in table():
        found = [row for row in rows if re.search(rf"{route.method} {re.escape(route.path)}[`?]", row)]
        assert found or _second_of_a_row(rows, route.method, route.path), f"{route.method} {route.path}"
        assert any(f"| {route.auth} |" in row for row in found), f"{route.method} {route.path} is {route.auth}"


def _second_of_a_row(rows: list[str], method: str, path: str) -> bool:
    return any(f"`{method} {path}`" in row for row in rows)


def settings() -> list[str]:
    names: list[str] = []
    for field in msgspec.structs.fields(GroupSettings):
        if field.encode_name in NESTED:
            nested = msgspec.structs.fields(NESTED[field.encode_name])
            names += [f"{field.encode_name}.{inner.encode_name}" for inner in nested]
        else:
            names.append(field.encode_name)
    return names


@pytest.mark.parametrize("name", settings())
def test_every_setting_of_a_group_is_explained(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs/settings.md").read_text()


def test_every_setting_of_a_config_a_health_check_and_a_parameter_is_named() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    for kind in (ConfigSettings, Health, Parameter):
        for name in kind.__struct_fields__:
            assert f"`{name}`" in text, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("name", Config.__struct_fields__)
def test_every_setting_of_the_agent_is_explained(name: str) -> None:
    rows = [line for line in (ROOT / "docs/agent.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
