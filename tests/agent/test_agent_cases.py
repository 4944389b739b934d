"""The cases of agent-cases.yaml and more-cases.yaml on the real command line, and each place where we differ."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.agent.case_runner import Case, Stage, cases, run_case

from shiftwork_contract.appspec import parse_server
from shiftwork_contract.errors import ContractViolation, InvalidRequest
from shiftwork_contract.messages import from_coordinator

CASES = cases("agent-cases.yaml")
MORE = cases("more-cases.yaml")

IMPROVED: dict[str, tuple[str, dict[str, Any]]] = {
    "link-dir": ("links are kept, to directories too", {"dest": {"dl": {"link": "sub"}, "sub/z": {"text": "Z"}}}),
    "perm-setuid-lost": ("the owner is set before the mode", {"dest": {"a.txt": {"mode": "4755", "owner": "nobody"}}}),
}
"""Where we differ unless `compat` is strict: why, and what we do instead."""

ALWAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "perm-unknown-owner": ("a refused Install copies nothing", {"dest": {}, "dest_absent": True}),
    "spec-name-yaml": ("appspec.yaml works everywhere", {"result": "succeeded", "dest": {"a.txt": {"text": "A"}}}),
    "hook-env": (
        "the group's id in local use is its name, and the bundle comes from no bucket",
        {"stdout": ["AfterInstall|${DEPLOYMENT}|MyApp|${GROUP}|${GROUP}", "b="]},
    ),
}
"""Where we differ in strict use too: it is a defect, a danger, or has no counterpart."""


def hook_unknown_listed(case: Case) -> None:
    """The list of events is an argument of the parser."""
    with pytest.raises(InvalidRequest, match="Mystery"):
        parse_server(case["appspec"], events=case["options"]["all_possible_lifecycle_events"])


def missing(field: str) -> Callable[[Case], None]:
    """Another protocol: a command that lacks a field cannot be read."""

    def check(case: Case) -> None:
        command = {"id": "1", "deploymentId": "d", "groupId": "g", "application": "a", "group": "g", "sequence": 1,
                   "revision": {"identity": "sha256:", "url": "coordinator:"}}  # fmt: skip
        del command[field]
        with pytest.raises(ContractViolation, match=field):
            from_coordinator(json.dumps({"kind": "RunCommand", "epoch": 1, "command": command}))

    return check


def known_already(case: Case) -> None:
    """Another protocol: a command that is delivered again is not run again; see test_executor.py."""
    assert case["expect"]["result"] == "dropped"


APART: dict[str, Callable[[Case], None]] = {
    "hook-unknown-listed": hook_unknown_listed,
    "proto-missing-deploymentid": missing("deploymentId"),
    "proto-missing-applicationname": missing("application"),
    "proto-ack-succeeded": known_already,
}
"""What the command line cannot express."""


STRICT = [*CASES, *(name for name, case in MORE.items() if "strict" in case)]


@pytest.mark.parametrize(
    ("name", "compat"), [*((name, "") for name in (*CASES, *MORE)), *((name, "strict") for name in STRICT)]
)
def test_case(name: str, compat: str, tmp_path: Path) -> None:
    case = (CASES | MORE)[name]
    if name in APART:
        APART[name](case)
        return
    skip_without_means(case)
    differs = ALWAYS | ({} if compat else IMPROVED)
    expect: Mapping[str, Any] = case["expect"] | (differs[name][1] if name in differs else {})
    run_case(case, Stage(tmp_path, *([f"--compat={compat}"] if compat else [])), expect | case.get(compat, {}))


def skip_without_means(case: Case) -> None:
    text = case["appspec"] or ""
    if os.getuid() != 0 and ("owner" in text or "runas" in text):
        pytest.skip("changing owners takes root")
    if "acls" in text and case["expect"]["result"] == "succeeded" and shutil.which("setfacl") is None:
        pytest.skip("this host has no setfacl")


def test_every_difference_is_in_a_table() -> None:
    tables = [set(IMPROVED), set(ALWAYS), set(APART)]
    assert set.union(*tables) <= set(CASES) and sum(map(len, tables)) == len(set.union(*tables))
    assert len(CASES) == 42 and len(MORE) >= 40 and not set(CASES) & set(MORE)
