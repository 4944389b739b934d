"""Archives: what one is worth, where the limits lie, and that fuzz finds nothing but our own errors."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftwork_contract.archive import Limits, inspect, members, pack
from shiftwork_contract.errors import HostileBundle, InvalidRequest
from shiftwork_contract.revision import BundleType

SPEC = b"version: 0.0\nos: linux\n"


def tar_of(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


def info(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.linkname, made.mtime = kind, mode, target, 1_700_000_000
    return made


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, mode=mode), content


def zip_of(*entries: tuple[str, bytes, int]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20))
            entry.create_system, entry.external_attr = 3, mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, content)
    out.seek(0)
    return out


# Both tables are tried in test_hostile_archives.py
HOSTILE_TARS = {
    "absolute": [file("/etc/passwd")],
    "climbs": [file("a/../../etc/passwd")],
    "climbs first": [file("../x")],
    "newline": [file("a\nb")],
    "escape": [file("a\x1b[2Jb")],
    "not utf-8": [file("a\udcff")],
    "part too long": [file("a" * 256)],
    "path too long": [file("/".join(["a" * 200] * 30))],
    "character device": [(info("d", tarfile.CHRTYPE), b"")],
    "block device": [(info("d", tarfile.BLKTYPE), b"")],
    "fifo": [(info("d", tarfile.FIFOTYPE), b"")],
    "setuid": [file("s", mode=0o4755)],
    "setgid": [file("s", mode=0o2755)],
    "hard link out": [(info("h", tarfile.LNKTYPE, target="../../etc/shadow"), b"")],
    "hard link to absolute": [file("etc/shadow"), (info("h", tarfile.LNKTYPE, target="/etc/shadow"), b"")],
    "hard link to a later file": [(info("h", tarfile.LNKTYPE, target="f"), b""), file("f")],
    "hard link to a link": [
        (info("l", tarfile.SYMTYPE, target="/etc/shadow"), b""),
        (info("h", tarfile.LNKTYPE, target="l"), b""),
    ],
    "through a link": [(info("l", tarfile.SYMTYPE, target="/etc"), b""), file("l/passwd")],
    "through a deeper link": [(info("a/l", tarfile.SYMTYPE, target=".."), b""), file("a/l/b/c")],
    "link over a directory": [file("a/b"), (info("a", tarfile.SYMTYPE, target="/etc"), b"")],
    "file over a link": [(info("l", tarfile.SYMTYPE, target="/etc/passwd"), b""), file("l")],
    "twice": [file("a"), file("./a")],
    "below a file": [file("a"), file("a/b")],
    "empty link": [(info("l", tarfile.SYMTYPE, target=""), b"")],
    "empty name": [file(".")],
}  # fmt: skip


HOSTILE_ZIPS = {
    "absolute": [("/etc/passwd", b"x", 0o100644)],
    "climbs": [("a/../../x", b"x", 0o100644)],
    "backslash": [("..\\x", b"x", 0o100644)],
    "device": [("d", b"", stat.S_IFCHR | 0o644)],
    "fifo": [("d", b"", stat.S_IFIFO | 0o644)],
    "setuid": [("s", b"x", 0o104755)],
    "through a link": [("l", b"/etc", 0o120777), ("l/passwd", b"x", 0o100644)],
    "twice": [("a", b"x", 0o100644), ("./a", b"x", 0o100644)],
}


def test_a_nul_in_a_zip_name_is_refused() -> None:
    data = zip_of(("aXb.txt", b"x", 0o100644)).getvalue().replace(b"aXb.txt", b"a\0b.txt")
    with pytest.raises(HostileBundle, match="control characters"):
        inspect(io.BytesIO(data), BundleType.ZIP)


def test_limits_on_entries_and_bytes() -> None:
    many = [file(f"f{n}") for n in range(5)]
    with pytest.raises(HostileBundle, match="more than 4 entries"):
        inspect(tar_of(*many), BundleType.TAR, Limits(entries=4))
    with pytest.raises(HostileBundle, match="larger than 4 bytes"):
        inspect(tar_of(*many), BundleType.TAR, Limits(unpacked_bytes=4))
    assert inspect(tar_of(*many), BundleType.TAR, Limits(entries=5, unpacked_bytes=5)).entries == 5


def test_hard_links_count_with_the_size_of_their_file() -> None:
    linked = [file("f", b"12345678"), *((info(f"h{n}", tarfile.LNKTYPE, target="f"), b"") for n in range(3))]
    assert inspect(tar_of(*linked), BundleType.TAR, Limits(unpacked_bytes=32)).size == 32
    with pytest.raises(HostileBundle, match="larger than 31 bytes"):
        inspect(tar_of(*linked), BundleType.TAR, Limits(unpacked_bytes=31))


@pytest.mark.parametrize("kind", [BundleType.TGZ, BundleType.ZIP])
def test_a_bomb_is_refused_by_its_ratio(kind: BundleType) -> None:
    flat = bytes(4 << 20)
    bomb = (
        zip_of(("b", flat, 0o100644))
        if kind is BundleType.ZIP
        else io.BytesIO(gzip.compress(tar_of(file("b", flat)).read()))
    )
    with pytest.raises(HostileBundle, match="200 to 1"):
        inspect(bomb, kind, Limits(ratio_free_bytes=1 << 20))
    bomb.seek(0)
    assert inspect(bomb, kind).size == len(flat)


def test_headers_are_not_read_into_memory_without_limit() -> None:
    long = info("a")
    long.pax_headers = {"comment": "x" * (2 << 20)}
    with pytest.raises(HostileBundle, match="headers"):
        inspect(tar_of((long, b"")), BundleType.TAR)
    one = tarfile.TarInfo("././@LongLink")
    one.type = tarfile.GNUTYPE_LONGNAME
    chained = b"".join(one.tobuf(tarfile.GNU_FORMAT) for _ in range(2000)) + bytes(1024)
    with pytest.raises(InvalidRequest):
        inspect(io.BytesIO(chained), BundleType.TAR)


@pytest.mark.parametrize("cut", [100, 700, 1100, 5000])
@pytest.mark.parametrize("kind", [BundleType.TAR, BundleType.TGZ, BundleType.ZIP])
def test_what_is_cut_off_is_never_taken_for_whole(kind: BundleType, cut: int) -> None:
    body = os.urandom(5000)
    if kind is BundleType.ZIP:
        data = zip_of(("a", body, 0o100644), ("b", body, 0o100644)).getvalue()
    else:
        data = tar_of(file("a", body), file("b", body)).getvalue()
        data = gzip.compress(data) if kind is BundleType.TGZ else data
    with pytest.raises(InvalidRequest) as err:
        inspect(io.BytesIO(data[:cut]), kind)
    assert err.value.code == "InvalidBundle"


def test_damage_in_the_middle_is_not_taken_for_the_end() -> None:
    data = bytearray(tar_of(file("a"), file("b"), file("c")).getvalue())
    data[1024 + 20] ^= 0xFF
    with pytest.raises(InvalidRequest, match="cut off or damaged"):
        inspect(io.BytesIO(bytes(data)), BundleType.TAR)


@pytest.mark.parametrize("kind", [BundleType.TAR, BundleType.TGZ, BundleType.ZIP])
def test_garbage_is_no_archive(kind: BundleType) -> None:
    with pytest.raises(InvalidRequest, match="zip archive" if kind is BundleType.ZIP else "tar archive"):
        inspect(io.BytesIO(b"this is not an archive" * 100), kind)


def test_the_digest_is_the_tree_whatever_the_archive() -> None:
    entries = [
        file("appspec.yml", SPEC),
        file("bin/run", b"#!", 0o755),
        (info("bin/r", tarfile.SYMTYPE, target="run"), b""),
    ]
    plain = inspect(tar_of(*entries), BundleType.TAR)
    listed = [(info("bin", tarfile.DIRTYPE, 0o755), b""), *reversed(entries)]
    zipped = zip_of(
        ("bin/", b"", 0o40755),
        ("bin/run", b"#!", 0o100755),
        ("bin/r", b"run", 0o120777),
        ("appspec.yml", SPEC, 0o100644),
    )
    wrapped = [(info("web-1.2/" + i.name, i.type, i.mode, i.linkname), c) for i, c in entries]
    same = [
        inspect(tar_of(*listed, form=tarfile.GNU_FORMAT), BundleType.TAR),
        inspect(io.BytesIO(gzip.compress(tar_of(*entries).read())), BundleType.TGZ),
        inspect(zipped, BundleType.ZIP),
        inspect(tar_of(*wrapped), BundleType.TAR),
    ]
    assert {found.identity for found in same} == {plain.identity}
    assert plain.appspec == SPEC and plain.appspec_name == "appspec.yml" and plain.entries == 4
    changed = inspect(tar_of(entries[0], file("bin/run", b"#!", 0o754), entries[2]), BundleType.TAR)
    assert changed.identity != plain.identity


def test_a_single_directory_is_taken_off_around_whatever_it_holds() -> None:
    with_spec = inspect(tar_of(file("top/appspec.yaml", SPEC), file("top/a")), BundleType.TAR)
    beside = inspect(tar_of(file("top/appspec.yaml", SPEC), file("a")), BundleType.TAR)
    without = inspect(tar_of(file("top/a")), BundleType.TAR)
    named = inspect(tar_of(file("top/a", b""), file("top/appspec.eu.yml")), BundleType.TAR)
    assert named.identity == inspect(tar_of(file("a", b""), file("appspec.eu.yml")), BundleType.TAR).identity
    assert (with_spec.appspec_name, with_spec.entries) == ("appspec.yaml", 2)
    assert (beside.appspec, beside.entries) == (None, 3)
    assert without == inspect(tar_of(file("a")), BundleType.TAR)
    alone = inspect(tar_of(file("appspec.yml", SPEC)), BundleType.TAR)
    assert (alone.appspec_name, alone.entries) == ("appspec.yml", 1)


def test_an_appspec_that_is_a_link_is_not_read() -> None:
    linked = inspect(tar_of((info("appspec.yml", tarfile.SYMTYPE, target="/etc/passwd"), b"")), BundleType.TAR)
    assert linked.appspec is None


def test_names_beyond_the_old_limits_and_in_other_scripts_survive() -> None:
    name = "é/" + "d" * 120 + "/" + "f" * 200
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        found = [m.path for m, _ in members(tar_of(file(name), form=form), BundleType.TAR)]
        assert found == [name.encode()]
    assert [m.path for m, _ in members(zip_of((name, b"", 0o100644)), BundleType.ZIP)] == [name.encode()]


def test_pack_is_deterministic_and_reads_back(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/run").write_bytes(b"#!/bin/sh\n")
    (tree / "bin/run").chmod(0o755)
    (tree / "appspec.yml").write_bytes(SPEC)
    (tree / "out").symlink_to("/nowhere")
    os.link(tree / "bin/run", tree / "bin/same")
    one, two = io.BytesIO(), io.BytesIO()
    assert pack(tree, one) == pack(tree, two) == 5
    assert one.getvalue() == two.getvalue()
    one.seek(0)
    found = {m.path: m.kind for m, _ in members(one, BundleType.TGZ)}
    assert found == {b"appspec.yml": "file", b"bin": "dir", b"bin/run": "file", b"bin/same": "file", b"out": "link"}


def test_a_packed_directory_keeps_the_only_directory_in_it(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir(mode=0o755)
    (tmp_path / "deploy/prod.yml").write_bytes(SPEC)
    out = io.BytesIO()
    assert pack(tmp_path, out) == 2
    out.seek(0)
    found = inspect(out, BundleType.TGZ, appspec_names=("deploy/prod.yml",))
    assert (found.appspec, found.entries) == (SPEC, 2)
    as_github = inspect(tar_of(file("o-r-1/deploy/prod.yml", SPEC)), BundleType.TAR)
    assert found.identity == as_github.identity


def test_pack_refuses_what_an_agent_would_refuse(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest, match="FIFO"):
        pack(tmp_path, io.BytesIO())
    (tmp_path / "pipe").unlink()
    (tmp_path / "su").write_bytes(b"")
    (tmp_path / "su").chmod(0o4755)
    with pytest.raises(InvalidRequest, match="setuid"):
        pack(tmp_path, io.BytesIO())


SEEDS = {
    BundleType.TAR: tar_of(
        file("appspec.yml", SPEC), (info("l", tarfile.SYMTYPE, target="x"), b""), file("d/e" * 60)
    ).getvalue(),
    BundleType.ZIP: zip_of(("appspec.yml", SPEC, 0o100644), ("l", b"x", 0o120777)).getvalue(),
}
SEEDS[BundleType.TGZ] = gzip.compress(SEEDS[BundleType.TAR])


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    end=st.integers(0, 1 << 16),
)
def test_damaged_archives_raise_nothing_but_invalid_request(
    kind: BundleType, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(SEEDS[kind])
    for at, value in changes:
        data[at % len(data)] = value
    with contextlib.suppress(InvalidRequest):
        inspect(io.BytesIO(bytes(data[: len(data) - end % 64])), kind, Limits(unpacked_bytes=1 << 20))


def test_a_zip_name_that_begins_with_a_nul_is_refused() -> None:
    data = SEEDS[BundleType.ZIP].replace(b"appspec.yml", b"\0ppspec.yml")
    with pytest.raises(InvalidRequest, match="control characters"):
        inspect(io.BytesIO(data), BundleType.ZIP)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(sorted(SEEDS)))
def test_noise_raises_nothing_but_invalid_request(noise: bytes, kind: BundleType) -> None:
    with pytest.raises(InvalidRequest):
        inspect(io.BytesIO(noise), kind)
