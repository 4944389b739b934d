"""`shiftwork approve`: an operator approves a key that was compared, never a name alone."""

from __future__ import annotations

import pytest

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PATH = "/v1/join/requests"


@pytest.fixture
def asking(fake):
    def row(name, fingerprint):
        return {"instance": name, "fingerprint": fingerprint, "remote": "10.0.0.7", "address": "", "askedAt": 1.0}

    rows = [row("web-1", A), row("twin", A.replace("a", "c")), row("twin", B)]
    fake.on("GET", PATH, {"requests": rows, "caFingerprint": "sha256:" + "f" * 64})
    for each in (A, B):
        fake.on("POST", f"{PATH}/{each}/approve", {"instance": "web-1"})
        fake.on("POST", f"{PATH}/{each}/deny", {"instance": "web-1"})
    return fake


async def test_the_list_shows_whole_fingerprints(asking, cli):
    ran = await cli("approve")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["INSTANCE", "web-1", "twin", "twin"]
    assert A in ran.out and B in ran.out and "10.0.0.7" in ran.out


async def test_an_empty_list_shows_how_a_host_asks(fake, cli):
    fake.on("GET", PATH, {"requests": [], "caFingerprint": "sha256:" + "f" * 64})
    assert "--ca-fingerprint sha256:" + "f" * 64 in (await cli("approve")).out


@pytest.mark.parametrize("given", [A, "a" * 32, ":".join(["AA"] * 16)])
async def test_a_fingerprint_is_enough(asking, cli, given):
    ran = await cli("approve", given, "--tag", "Role=web")
    assert (ran.code, ran.out) == (0, "web-1 is approved.\n")
    assert asking.bodies("POST", f"{PATH}/{A}/approve") == [{"name": "web-1", "tags": {"Role": "web"}}]


async def test_a_name_goes_with_its_fingerprint(asking, cli):
    assert (await cli("approve", "twin", "--fingerprint", B)).code == 0
    assert asking.bodies("POST", f"{PATH}/{B}/approve") == [{"name": "twin", "tags": {}}]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["web-1"], "by its name alone"),
        (["web-1", "--fingerprint", B], "deny what is not yours"),
        (["web-1", "--fingerprint", "abcd"], "32 to 64 hex digits"),
        (["twin"], "2 hosts ask"),
        (["nobody"], "cannot find a host"),
        (["d" * 64], "no host that asks"),
        (["--deny"], "name the INSTANCE"),
    ],
)
async def test_what_was_not_compared_is_not_approved(asking, cli, given, told):
    ran = await cli("approve", *given)
    assert ran.code == 2 and told in ran.err
    assert all(each.method == "GET" for each in asking.asked)


async def test_denying_needs_no_comparison(asking, cli):
    assert (await cli("approve", "web-1", "--deny")).out == "web-1 is denied.\n"
    assert asking.bodies("POST", f"{PATH}/{A}/deny") == [{}]
