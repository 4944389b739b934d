"""Files beside the database: output is bounded and says what is missing; names lead nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shiftwork_contract.errors import ContractViolation, InvalidRequest
from shiftwork_coordinator.store import Bundles, Outputs, blobs

WHERE = ("d-1", "web-1", "Install")
IDENTITY = "sha256:" + "a" * 64


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path / "output")


def test_a_gap_says_so_until_the_missing_piece_comes(outputs: Outputs) -> None:
    whole = b"a" * 100 + b"b" * 100 + b"c" * 100
    outputs.append(*WHERE, 0, whole[:100])
    outputs.append(*WHERE, 200, whole[200:])
    assert blobs.MISSING in outputs.read(*WHERE)
    assert outputs.read(*WHERE)[200:] == whole[200:]
    outputs.append(*WHERE, 100, whole[100:200])
    assert outputs.read(*WHERE) == whole


def test_a_gap_too_small_for_words_is_still_seen(outputs: Outputs) -> None:
    outputs.append(*WHERE, 3, b"def")
    assert outputs.read(*WHERE) == b"???def"


def test_pieces_that_overlap_change_nothing(outputs: Outputs) -> None:
    for offset, data in ((0, b"abcd"), (2, b"cdef"), (0, b"abc")):
        outputs.append(*WHERE, offset, data)
    assert outputs.read(*WHERE) == b"abcdef"


def test_the_piece_that_crosses_the_limit_is_cut_visibly(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "OUTPUT_LIMIT", 10)
    for _ in range(2):
        outputs.append(*WHERE, 0, b"x" * 18)
    assert outputs.read(*WHERE) == b"x" * 10 + blobs.CUT


def test_what_ends_at_the_limit_is_not_cut(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "OUTPUT_LIMIT", 10)
    outputs.append(*WHERE, 0, b"x" * 10)
    assert outputs.read(*WHERE) == b"x" * 10


def test_an_offset_far_away_costs_no_disk_and_is_cut_once(outputs: Outputs) -> None:
    for _ in range(3):
        outputs.append(*WHERE, 1 << 60, b"x")
    assert outputs.read(*WHERE) == blobs.CUT


def test_an_offset_below_zero_is_the_agents_mistake(outputs: Outputs) -> None:
    with pytest.raises(ContractViolation, match="at offset -1"):
        outputs.append(*WHERE, -1, b"x")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../a", "a\0b", "-a", "a" * 129, "a\n"])
def test_names_that_could_lead_elsewhere_are_refused(outputs: Outputs, name: str) -> None:
    for where in ((name, "web-1", "Install"), ("d-1", name, "Install"), ("d-1", "web-1", name)):
        with pytest.raises(InvalidRequest):
            outputs.append(*where, 0, b"x")
        with pytest.raises(InvalidRequest):
            outputs.read(*where)
    with pytest.raises(InvalidRequest):
        outputs.remove(name)
    assert outputs.events(name) == {}


def test_removing_output_leaves_that_of_others(outputs: Outputs) -> None:
    outputs.append("d-1", "web-1", "Install", 0, b"abc")
    outputs.append("d-2", "web-1", "Install", 0, b"abcd")
    assert outputs.sizes() == {"d-1": 3, "d-2": 4}
    outputs.remove("d-1")
    outputs.remove("d-1")
    assert outputs.sizes() == {"d-2": 4}


def test_an_upload_that_broke_off_is_removed_once_it_is_old(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path)
    old, new = bundles.temporary(), bundles.temporary()
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (100.0, 100.0))
    os.utime(new, (300.0, 300.0))
    assert bundles.sizes() == {}
    assert bundles.remove_uploads(before=200.0) == 1
    bundles.keep(new, IDENTITY)
    assert bundles.sizes() == {IDENTITY: 4}
    bundles.remove(IDENTITY)
    assert not bundles.has(IDENTITY)


def test_what_file_systems_put_beside_the_output_is_left_alone(outputs: Outputs, tmp_path: Path) -> None:
    outputs.append("d-1", "web-1", "Install", 0, b"abc")
    for name in (".nfs0001", ".snapshot", "lost+found"):
        (tmp_path / "output" / name).mkdir()
    (tmp_path / "output" / "note").write_text("a file")
    assert outputs.sizes() == {"d-1": 3}


def test_an_upload_that_ends_during_the_look_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = Bundles(tmp_path)
    here, ended = bundles.temporary(), bundles.temporary()
    here.write_bytes(b"half")
    os.utime(here, (100.0, 100.0))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([ended, here]))
    assert bundles.remove_uploads(before=200.0) == 1
    assert not here.exists()
