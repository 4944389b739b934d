"""What only the real protocol can show: host keys, logging in, a connection that breaks."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import asyncssh
import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.bootstrap.ports import HostProblem
from shiftwork_coordinator.bootstrap.ssh import Access, SshDialer


async def problem(fleet, name="web-1", **access):
    with pytest.raises(HostProblem) as caught:
        async with fleet.dialer(**access).session(fleet.targets[name]) as session:
            await session.run("sh -c '' shiftwork-look")
    return caught.value


async def test_an_unknown_host_is_refused_with_its_fingerprint(ssh_fleet, tmp_path):
    host = await ssh_fleet.add("web-1")
    refused = await problem(ssh_fleet, known_hosts=tmp_path / "none")
    assert "its host key is not in" in refused.problem
    assert ssh_fleet.key("web-1-host").get_fingerprint() in refused.problem
    assert "--accept-new-host-keys" in refused.remedy
    assert host.ran == []


async def test_an_unknown_host_is_accepted_and_remembered_when_that_is_said(ssh_fleet, tmp_path):
    await ssh_fleet.add("web-1")
    file = tmp_path / "new" / "known_hosts"
    for accept in (True, False):
        async with ssh_fleet.dialer(known_hosts=file, accept_new=accept).session(ssh_fleet.targets["web-1"]) as session:
            assert "@hostname=web-1" in (await session.run("sh -c '' shiftwork-look")).output
    port = ssh_fleet.targets["web-1"].port
    assert re.fullmatch(rf"\[127\.0\.0\.1\]:{port} ssh-ed25519 \S+\n", file.read_text())


@pytest.mark.parametrize("accept", [False, True])
async def test_a_changed_host_key_is_refused_whatever_is_said(ssh_fleet, accept):
    host = await ssh_fleet.add("web-1")
    (ssh_fleet.directory / "known_hosts").unlink()
    ssh_fleet.know(ssh_fleet.targets["web-1"].port, ssh_fleet.key("another"))
    refused = await problem(ssh_fleet, accept_new=accept)
    assert "its host key has changed" in refused.problem
    assert "ssh-keygen -R [127.0.0.1]:" in refused.remedy
    assert host.ran == []


async def test_a_host_key_of_another_kind_than_known_is_refused(ssh_fleet):
    host = await ssh_fleet.add("web-1")
    (ssh_fleet.directory / "known_hosts").unlink()
    ssh_fleet.know(ssh_fleet.targets["web-1"].port, asyncssh.generate_private_key("ecdsa-sha2-nistp256"))
    refused = await problem(ssh_fleet, accept_new=True)
    assert "cannot agree with" in refused.problem
    assert host.ran == []


async def test_no_key_check_in_the_ssh_configuration_is_not_obeyed(ssh_fleet, monkeypatch, tmp_path):
    await ssh_fleet.add("web-1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = tmp_path / "lax"
    config.write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    refused = await problem(ssh_fleet, known_hosts=None, config=config)
    assert "its host key is not in" in refused.problem


async def test_the_ssh_configuration_names_port_user_and_key(ssh_fleet, tmp_path):
    await ssh_fleet.add("web-1")
    target = ssh_fleet.targets["web-1"]
    config = tmp_path / "config"
    config.write_text(
        f"Host web\n  HostName 127.0.0.1\n  Port {target.port}\n  User ops\n  IdentityFile {tmp_path / 'key'}\n"
        f"  UserKnownHostsFile {tmp_path / 'known_hosts'}\n"
    )
    dialer = SshDialer(Access(config=config))
    async with dialer.session(replace(target, host="web", user="", port=0)) as session:
        assert (await session.run("sh -c '' shiftwork-look")).code == 0


async def test_a_jump_host_is_passed_through(ssh_fleet, tmp_path):
    await ssh_fleet.add("web-1")
    jump = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[ssh_fleet.key("jump-host")],
        authorized_client_keys=str(ssh_fleet._public("key")), server_factory=Jump,
    )  # fmt: skip
    ssh_fleet.know(jump.get_port(), ssh_fleet.key("jump-host"))
    config = tmp_path / "config"
    config.write_text(
        f"Host 127.0.0.1\n  IdentityFile {tmp_path / 'key'}\n  UserKnownHostsFile {tmp_path / 'known_hosts'}\n"
        f"Host inner\n  HostName 127.0.0.1\n  ProxyJump jumper@127.0.0.1:{jump.get_port()}\n"
    )
    try:
        dialer = ssh_fleet.dialer(config=config)
        async with dialer.session(replace(ssh_fleet.targets["web-1"], host="inner")) as session:
            assert (await session.run("sh -c '' shiftwork-look")).code == 0
        assert Jump.passed == ["127.0.0.1"]
    finally:
        jump.close()
        await jump.wait_closed()


class Jump(asyncssh.SSHServer):
    passed: list[str] = []  # noqa: RUF012  what the one test of it looks at

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        Jump.passed.append(dest_host)
        return True


async def test_a_key_that_is_not_accepted_is_said(ssh_fleet):
    await ssh_fleet.add("web-1")
    ssh_fleet.key("stranger")
    refused = await problem(ssh_fleet, identities=(ssh_fleet.directory / "stranger",))
    assert "as operator: no key is accepted" in refused.problem


def test_a_key_with_a_passphrase_or_none_at_all_is_refused_before_any_host(tmp_path):
    locked, odd = tmp_path / "locked", tmp_path / "odd"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(locked, "pkcs8-pem", passphrase="x")
    odd.write_text("no key")
    for file in (locked, odd):
        with pytest.raises(InvalidRequest, match=rf"cannot use the key {file}.*ssh-add"):
            SshDialer(Access(identities=(file,)))


async def test_a_host_that_says_nothing_is_given_up(ssh_fleet):
    await ssh_fleet.add("web-1")
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    target = replace(ssh_fleet.targets["web-1"], port=server.sockets[0].getsockname()[1])
    ssh_fleet.targets["silent"] = target
    refused = await problem(ssh_fleet, "silent", connect_within=0.3)
    server.close()
    assert "cannot reach 127.0.0.1" in refused.problem


async def test_a_connection_that_breaks_is_one_hosts_problem(ssh_fleet):
    host = await ssh_fleet.add("web-1")
    await ssh_fleet.add("web-2")

    async def broken(command, stdin):
        raise ConnectionResetError

    host.run = broken
    results = await ssh_fleet.bootstrap()
    assert results["web-1"].failed
    assert not results["web-2"].failed


async def test_a_flood_of_output_is_cut(ssh_fleet):
    await ssh_fleet.add("web-1", fails={"look": "x" * 3_000_000 + "end"})
    async with ssh_fleet.dialer().session(ssh_fleet.targets["web-1"]) as session:
        ran = await session.run("sh -c '' shiftwork-look")
    assert (len(ran.output), ran.output[-3:]) == (256 * 1024, "end")
