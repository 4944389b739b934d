"""Signatures: kept with a revision when they fit, carried by every deployment and rollback of it. No key is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shiftwork_contract.revision import Revision, Signed
from shiftwork_contract.statement import made, text
from shiftwork_coordinator.drafting import CreateDeployment, resolve

from .test_api_use import APPLY, apply, bundle

pytestmark = pytest.mark.usefixtures("web_app")
PUSH = "/v1/revisions?application=web&type=tgz"
GOOD = bundle(appspec_yml="version: 0.0\nos: linux\n")


def key(directory: Path, name: str = "id") -> Path:
    path = directory / name
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def sign(
    directory: Path,
    tree: str,
    application: str = "web",
    *,
    sequence: int = 1,
    namespace: str = "shiftwork",
    by: str = "id",
    at: float = 1.8e9,
    expires: float = 1.9e9,
) -> Signed:
    statement = text(made(application, tree, sequence=sequence, signed_at=at, expires=expires))
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key(directory, by))]
    done = subprocess.run(command, input=statement, capture_output=True, text=True, check=True)
    return Signed(statement, done.stdout)


async def put(site: Any, tree: str, signed: Signed, application: str = "web") -> tuple[int, Any]:
    path = f"/v1/revisions/{tree}/signature?application={application}"
    answer: tuple[int, Any] = await site.json("PUT", path, role="deployer", json=msgspec.to_builtins(signed))
    return answer


async def test_a_signature_stays_with_its_revision(site: Any, tmp_path: Path) -> None:
    await apply(site, APPLY)
    tree = (await site.json("POST", PUSH, role="deployer", data=GOOD))[1]["revision"]
    for sequence in (1, 2):
        signed = sign(tmp_path, tree, sequence=sequence)
        status, told = await put(site, tree, signed)
        assert (status, told["signed"]["sequence"]) == (200, sequence)
        assert (await resolve(site.home, "web", tree)).signed == signed
    for query in ("", "?application=web"):
        (listed,) = (await site.json("GET", f"/v1/revisions{query}", role="viewer"))[1]["revisions"]
        assert (listed["revision"]["identity"], listed["signed"]["sequence"]) == (tree, 2)
    assert (await site.json("GET", "/v1/revisions?application=api", role="viewer"))[1] == {"revisions": []}
    assert (await site.json("POST", PUSH, role="deployer", data=GOOD))[1]["new"] is False
    (site.data / "bundles" / tree.removeprefix("sha256:")).unlink()
    await site.json("POST", PUSH, role="deployer", data=GOOD)
    assert (await resolve(site.home, "web", tree)).signed == signed
    audited = (await site.json("GET", "/v1/audit", role="admin"))[1]["audit"]
    assert sum("revision.sign" in str(line) and "by SHA256:" in str(line) for line in audited) == 2


async def test_what_does_not_fit_is_refused(site: Any, tmp_path: Path) -> None:
    tree = (await site.json("POST", PUSH, role="deployer", data=GOOD))[1]["revision"]
    other = "sha256:" + "0" * 64
    good = sign(tmp_path, tree)
    for signed, part in (
        (sign(tmp_path, other), "for the tree"),
        (sign(tmp_path, tree, "api"), "for the application 'api'"),
        (sign(tmp_path, tree, namespace="git"), "namespace 'git'"),
        (Signed(good.statement + " ", good.signature), "spelled in another way"),
        (Signed(good.statement, good.signature[:200]), "cannot read the signature"),
        (Signed("x" * 5000, good.signature), "at most 4096"),
    ):
        status, told = await put(site, tree, signed)
        assert status == 400 and part in told["error"]["message"], told
    assert (await put(site, other, sign(tmp_path, other)))[0] == 404
    assert (await resolve(site.home, "web", tree)).signed is None


async def test_a_rollback_carries_the_newest_signature(site: Any, tmp_path: Path) -> None:
    tree = (await site.json("POST", PUSH, role="deployer", data=GOOD))[1]["revision"]
    first, second = sign(tmp_path, tree, sequence=1), sign(tmp_path, tree, sequence=2)
    await put(site, tree, second)
    before = Revision(tree, "coordinator:", signed=first)
    assert (await site.home.newly_signed("web", before)).signed == second
    elsewhere = Revision("sha256:" + "1" * 64, "https://x/y.tgz", digest_of="archive", signed=first)
    assert await site.home.newly_signed("web", elsewhere) == elsewhere


async def test_plan_shows_the_signature_of_what_lies_elsewhere(site: Any, tmp_path: Path) -> None:
    await apply(site, APPLY)
    await site.agent("web-1")
    await site.json("POST", "/v1/instances/web-1/tags", role="admin", json={"tags": {"Role": "web"}})
    signed = sign(tmp_path, "sha256:" + "a" * 64, sequence=3)
    asked = CreateDeployment("web", "production", f"https://x/y.tgz#sha256={'b' * 64}", signed=signed)
    status, told = await site.json("POST", "/v1/plan", role="viewer", json=msgspec.to_builtins(asked))
    assert (status, told["signed"]["sequence"]) == (200, 3)
    assert told["revision"]["signed"]["signature"] == signed.signature
