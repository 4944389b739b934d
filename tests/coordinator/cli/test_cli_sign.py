"""`shiftwork sign`, and how signatures go along with `push`, `deploy` and `plan`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shiftwork_contract.archive import inspect, pack
from shiftwork_contract.revision import BundleType, Signed
from shiftwork_contract.statement import facts, fitting, read
from shiftwork_coordinator.cli.signatures import signature_file

DAY = 86400


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/appspec.yml").write_text("version: 0.0\nos: linux\n")
    return tmp_path / "app"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def digest(app: Path) -> str:
    with (app.parent / "packed.tgz").open("w+b") as out:
        pack(app, out)
        out.seek(0)
        return inspect(out, BundleType.TGZ).identity


async def test_a_directory_and_its_archive_are_signed_alike(cli: Any, app: Path, key: Path) -> None:
    one = await cli("sign", str(app), "--application", "web", "--key", str(key))
    assert one.code == 0 and one.out.strip() == str(app.parent / "app.statement")
    place = Path(one.out.strip())
    signed = Signed(place.read_text(), signature_file(place).read_text())
    statement = fitting(signed, "web", digest(app))
    assert statement.expires.timestamp() - statement.signed_at.timestamp() == 90 * DAY
    assert facts(signed).signer in one.err
    more = (
        "--key",
        str(key),
        "--expires",
        "30d",
        "--sequence",
        "7",
        "--output",
        "json",
        "--write",
        str(app.parent / "x"),
    )
    two = await cli("sign", str(app.parent / "packed.tgz"), "--application", "web", *more)
    told = json.loads(two.out)
    assert (told["sequence"], told["statement"]) == (7, str(app.parent / "x"))
    assert told["expires"] - told["signedAt"] == 30 * DAY
    assert read((app.parent / "x").read_text()).revision == statement.revision


async def test_a_later_signature_has_a_higher_sequence(cli: Any, app: Path) -> None:
    told = [read((await cli("sign", str(app), "--application", "web", "--statement-only")).out) for _ in range(2)]
    assert told[0].sequence < told[1].sequence


async def test_by_hand_it_is_the_same(cli: Any, app: Path, key: Path) -> None:
    """What docs/security.md tells people who keep their keys elsewhere."""
    printed = await cli("sign", str(app), "--application", "web", "--statement-only")
    place = app.parent / "s"
    place.write_text(printed.out)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "shiftwork", "-f", str(key), str(place)], check=True)
    signed = Signed(place.read_text(), signature_file(place).read_text())
    assert fitting(signed, "web", digest(app)).application == "web"


async def test_a_key_that_cannot_sign_is_named(cli: Any, app: Path) -> None:
    ran = await cli("sign", str(app), "--application", "web", "--key", str(app / "none"))
    assert ran.code == 2 and "cannot sign with" in ran.err and "--key" in ran.err
    assert not (app.parent / "app.statement").exists()


@pytest.mark.parametrize("how", ["--signature", "--sign"])
async def test_push_brings_a_signature_along(fake: Any, cli: Any, app: Path, key: Path, how: str) -> None:
    pushed = digest(app)
    fake.on("POST", "/v1/revisions", {"revision": pushed, "size": 1, "entries": 1, "new": True}, 201)
    fake.on("PUT", f"/v1/revisions/{pushed}/signature", {"revision": pushed, "signed": {}})
    await cli("sign", str(app), "--application", "web", "--key", str(key))
    given = str(app.parent / "app.statement") if how == "--signature" else str(key)
    ran = await cli("push", str(app), "--application", "web", how, given)
    assert ran.code == 0 and ran.out.strip() == pushed and "signed by SHA256:" in ran.err
    (body,) = fake.bodies("PUT", f"/v1/revisions/{pushed}/signature")
    assert fitting(Signed(**body), "web", pushed)


async def test_a_signature_that_cannot_be_read_uploads_nothing(fake: Any, cli: Any, app: Path) -> None:
    (app.parent / "s").write_text("{}")
    for content in (None, "nonsense"):
        if content:
            (app.parent / "s.sig").write_text(content)
        ran = await cli("push", str(app), "--application", "web", "--signature", str(app.parent / "s"))
        assert ran.code == 2 and "cannot read the sign" in ran.err
    assert fake.asked == []


async def test_deploy_brings_a_signature_of_what_lies_elsewhere(fake: Any, cli: Any, app: Path, key: Path) -> None:
    await cli("sign", str(app), "--application", "web", "--key", str(key))
    fake.on("POST", "/v1/deployments", {"deploymentId": "d-1", "status": "Created"}, 201)
    where = "https://x/app.tgz#sha256=" + "0" * 64
    signature = ("--signature", str(app.parent / "app.statement"))
    ran = await cli("deploy", "web/production", "--revision", where, *signature, "--no-wait")
    assert ran.code == 0, ran.err
    (body,) = fake.bodies("POST", "/v1/deployments")
    assert fitting(Signed(**body["signed"]), "web", digest(app))


async def test_plan_says_who_signed(fake: Any, cli: Any) -> None:
    signed = {"signer": "SHA256:abc", "sequence": 5, "signedAt": 1.8e9, "expires": 1.8e9 + DAY}
    fake.on("POST", "/v1/plan", {"config": "c", "signed": signed, "problems": []})
    ran = await cli("plan", "web/production", "--revision", "sha256:" + "0" * 64)
    assert "signed by SHA256:abc, sequence 5, expires 2027-01-16 08:00 UTC" in ran.out
