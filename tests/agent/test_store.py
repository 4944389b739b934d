"""The store: a revision is in it whole or not at all, and what must stay stays."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from shiftwork_agent.bundle import unpack
from shiftwork_agent.store import Store
from shiftwork_contract.archive import inspect
from shiftwork_contract.errors import HostileBundle, InvalidRequest
from shiftwork_contract.revision import BundleType, Revision


def tar_of(files: dict[str, str | None], mode: int = 0o644) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_700_000_000
            if text is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o750
            info.size = len(text or "")
            tar.addfile(info, io.BytesIO((text or "").encode()))
    return out.getvalue()


def revision_of(data: bytes, **given: object) -> Revision:
    identity = inspect(io.BytesIO(data), BundleType.TAR).identity
    return Revision(**{"identity": identity, "url": "coordinator:", "bundle_type": BundleType.TAR, **given})  # type: ignore[arg-type]


def add(store: Store, data: bytes, revision: Revision | None = None) -> str:
    revision = revision or revision_of(data)
    with store.staging() as staging:
        store.add(io.BytesIO(data), revision, staging)
    return revision.identity


def left(state: Path) -> list[Path]:
    return [*(state / "revisions").iterdir(), *(state / "staging").iterdir()]


def test_the_digest_on_disk_is_the_digest_of_the_archive(tmp_path: Path) -> None:
    data = tar_of({"top/appspec.yml": "v", "top/d": None, "top/d/f": "f", "top/run": "r"})
    store = Store(tmp_path)
    identity = add(store, data)
    assert store.is_pristine(identity) and (store.tree(identity) / "d/f").read_text() == "f"
    assert (store.tree(identity) / "d").stat().st_mode & 0o777 == 0o750
    assert (store.tree(identity) / "run").stat().st_mtime == 1_700_000_000
    assert list((tmp_path / "staging").iterdir()) == []


def test_links_and_hard_links_are_unpacked_as_what_they_are(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        first, hard, soft = tarfile.TarInfo("a/f"), tarfile.TarInfo("b/h"), tarfile.TarInfo("b/l")
        hard.type, hard.linkname, soft.type, soft.linkname = tarfile.LNKTYPE, "a/f", tarfile.SYMTYPE, "/etc/passwd"
        first.size = 1
        tar.addfile(first, io.BytesIO(b"x"))
        tar.addfile(hard)
        tar.addfile(soft)
    into = tmp_path / "t"
    into.mkdir()
    found = unpack(io.BytesIO(out.getvalue()), BundleType.TAR, into)
    assert found.tree == inspect(io.BytesIO(out.getvalue()), BundleType.TAR).identity
    assert (into / "b/h").read_text() == "x" and (into / "b/l").readlink() == Path("/etc/passwd")


@pytest.mark.parametrize("wrong", ["identity", "size", "archive identity"])
def test_another_bundle_than_the_pinned_one_leaves_nothing(wrong: str, tmp_path: Path) -> None:
    data = tar_of({"appspec.yml": "v"})
    right = hashlib.sha256(data).hexdigest()
    other = "sha256:" + "0" * 64
    revision = {
        "identity": revision_of(data, identity=other),
        "size": revision_of(data, size=1),
        "archive identity": revision_of(data, identity=other, digest_of="archive"),
    }[wrong]
    store = Store(tmp_path)
    with pytest.raises(InvalidRequest) as err:
        add(store, data, revision)
    assert err.value.code == "DigestMismatch"
    assert left(tmp_path) == []
    add(store, data, revision_of(data, archive_sha256=right, size=len(data)))
    add(store, data, revision_of(data, identity=f"sha256:{right}", digest_of="archive"))
    assert len(store.stored()) == 2


def test_a_hostile_bundle_leaves_nothing(tmp_path: Path) -> None:
    data = tar_of({"a": "a", "../x": "x"})
    with pytest.raises(HostileBundle):
        add(Store(tmp_path), data, Revision("sha256:" + "1" * 64, "coordinator:", bundle_type=BundleType.TAR))
    assert left(tmp_path) == [] and not (tmp_path / "x").exists()


def test_the_oldest_go_and_those_that_must_stay_stay(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=2)
    names = [add(store, tar_of({"f": str(n)})) for n in range(5)]
    for age, name in enumerate(reversed(names)):
        place = store.tree(name).parent
        os.utime(place, (1e9 - age, 1e9 - age))
    assert set(store.prune({names[0]})) == {names[1], names[2], names[3]}
    assert {about.identity for about in store.stored()} == {names[0], names[4]}


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=10, max_bytes=250)
    names = [add(store, tar_of({"f": str(n) * 100})) for n in range(3)]
    assert len(store.prune({names[2]})) == 1


def test_changes_in_a_tree_are_noticed_but_for_an_execute_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    identity = add(store, tar_of({"run": "r", "f": "f"}))
    (store.tree(identity) / "run").chmod(0o755)
    assert store.is_pristine(identity)
    (store.tree(identity) / "f").write_text("g")
    assert not store.is_pristine(identity)
    add(store, tar_of({"run": "r", "f": "f"}))
    assert store.is_pristine(identity)


def test_a_half_removed_or_unknown_revision_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    identity = add(store, tar_of({"f": "f"}))
    (store.tree(identity).parent / "about.json").unlink()
    assert store.about(identity) is None and store.stored() == []
    add(store, tar_of({"f": "f"}))
    assert store.is_pristine(identity)
    with pytest.raises(InvalidRequest, match="64 hex digits"):
        store.tree("sha256:../../etc")
