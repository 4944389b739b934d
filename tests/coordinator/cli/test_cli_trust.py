"""`shiftwork trust`."""

from __future__ import annotations


async def test_trust(fake, cli):
    row = {"id": "t1", "account": "123456789012", "role": "web-*", "tags": {"Role": "web"}, "anyName": False}
    fake.on("POST", "/v1/trust", row, 201)
    given = ["--account", "123456789012", "--role", "web-*", "--tag", "Role=web"]
    ran = await cli("trust", "iam", *given)
    assert ran.out == "Instances with the role web-* of 123456789012 may join (trust t1).\n"
    assert fake.bodies("POST", "/v1/trust") == [
        {"account": "123456789012", "role": "web-*", "tags": {"Role": "web"}, "any_name": False}
    ]
    fake.on("GET", "/v1/trust", {"trusted": [row], "caFingerprint": "sha256:ff"})
    ran = await cli("trust", "list")
    assert ran.out.splitlines()[1].split()[:3] == ["t1", "123456789012", "web-*"]
    assert "sha256:ff" in ran.err
    fake.on("DELETE", "/v1/trust/t1", row)
    assert "t1 is removed" in (await cli("trust", "remove", "t1")).out
