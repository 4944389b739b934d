from __future__ import annotations

from pathlib import Path

import pytest

from shiftwork_agent.accepted import KEPT
from shiftwork_agent.config import ROLLBACK_MOST, Config, dump, load, load_if_there
from shiftwork_contract.errors import InvalidRequest


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = Config(("https://a:8443", "https://b:8443"), "web-1", "/srv/x", "127.77.0.1", keep_commands=3)
    (tmp_path / "agent.yml").write_bytes(dump(config))
    assert load(tmp_path / "agent.yml") == config


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("coordinators: []", "coordinators is empty"),
        ("coordinators: [ftp://x]", "ftp://x"),
        ("coordinators: ['https://[']", "write https://host:port"),
        ("coordinators: ['https://x:99999']", "write https://host:port"),
        ("coordinators: [https://x]\ninstal_root: /x", "instal_root"),
        ("coordinators: [https://x]\ninstall_root: x", "absolute path"),
        ("coordinators: [https://x]\naddress: web-1", "IP address"),
        ("coordinators: [https://x]\noutput_limit: 12", "output_limit is 12 bytes; the least is 4096"),
        ("coordinators: [https://x]\nallowed_signers: signers", "allowed_signers is 'signers'; write an absolute path"),
        ("coordinators: [https://x]\nrollback_window: 0", "rollback_window is 0 statements; write 1 to 100"),
        ("coordinators: [https://x]\nallowed_destinations: [/srv/../etc]", "absolute paths without"),
        ("coordinators: https://x", "Expected `array`"),
        ("coordinators: [", "while parsing"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "agent.yml").write_text(text)
    with pytest.raises(InvalidRequest, match=r"agent\.yml") as caught:
        load(tmp_path / "agent.yml")
    assert problem in caught.value.message


def test_only_who_has_joined_needs_a_file_or_a_coordinator(tmp_path: Path) -> None:
    assert load_if_there(tmp_path / "agent.yml") == Config()
    (tmp_path / "agent.yml").write_text("require_signed: true")
    assert load_if_there(tmp_path / "agent.yml").require_signed
    (tmp_path / "agent.yml").write_text("require_signd: true")
    with pytest.raises(InvalidRequest, match="require_signd"):
        load_if_there(tmp_path / "agent.yml")


def test_what_is_remembered_can_be_gone_back_to() -> None:
    assert ROLLBACK_MOST == KEPT


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="join"):
        load(tmp_path / "agent.yml")
