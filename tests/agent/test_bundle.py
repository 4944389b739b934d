"""Unpacking: nothing leaves the directory, whatever stands in it already."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from shiftwork_agent.bundle import unpack
from shiftwork_agent.disk import Directories
from shiftwork_contract.archive import Limits, inspect
from shiftwork_contract.errors import HostileBundle
from shiftwork_contract.revision import BundleType


def tar_of(*entries: tuple[str, bytes, str, int]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, text, mode in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, mode, 1_700_000_000
            if kind == tarfile.SYMTYPE:
                info.linkname = text
                tar.addfile(info)
            else:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    out.seek(0)
    return out


def test_modes_and_times_of_directories_survive_what_is_written_into_them(tmp_path: Path) -> None:
    archive = tar_of(
        ("d", tarfile.DIRTYPE, "", 0o555), ("d/f", tarfile.REGTYPE, "x", 0o400), ("i/f", tarfile.REGTYPE, "x", 0o644)
    )
    unpack(archive, BundleType.TAR, tmp_path)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o555
    assert (tmp_path / "d").stat().st_mtime == 1_700_000_000
    assert (tmp_path / "i").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "d/f").stat().st_mode & 0o7777 == 0o400


def test_the_umask_changes_nothing(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        unpack(tar_of(("i/f", tarfile.REGTYPE, "x", 0o664)), BundleType.TAR, tmp_path)
    finally:
        os.umask(former)
    assert (tmp_path / "i/f").stat().st_mode & 0o7777 == 0o664
    assert (tmp_path / "i").stat().st_mode & 0o7777 == 0o755


def test_a_link_planted_in_the_directory_is_not_written_through(tmp_path: Path) -> None:
    """The archive's own links are refused by the reader; this is one that somebody else puts there meanwhile."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "d").symlink_to(outside)
    with pytest.raises(OSError):
        unpack(tar_of(("d/f", tarfile.REGTYPE, "x", 0o644)), BundleType.TAR, inside)
    assert list(outside.iterdir()) == []


def test_limits_hold_while_unpacking(tmp_path: Path) -> None:
    archive = tar_of(("a", tarfile.REGTYPE, "x" * 100, 0o644))
    with pytest.raises(HostileBundle, match="larger than 50 bytes"):
        unpack(archive, BundleType.TAR, tmp_path, Limits(unpacked_bytes=50))


def test_many_directories_need_few_descriptors(tmp_path: Path) -> None:
    entries = [(f"a{n}/b/c/f", tarfile.REGTYPE, "x", 0o644) for n in range(300)]
    found = unpack(tar_of(*entries), BundleType.TAR, tmp_path)
    archive = tar_of(*entries)
    assert found.tree == inspect(archive, BundleType.TAR).identity and found.entries == 1200
    with Directories(str(tmp_path), keep=3) as directories:
        for n in range(300):
            assert os.stat("f", dir_fd=directories.open(f"a{n}/b/c")).st_size == 1
            assert len(directories._open) <= 3
