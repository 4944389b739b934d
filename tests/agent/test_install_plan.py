"""The plan: pure, so each rule is one row of what is wanted, owned and there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from shiftwork_agent.install.model import Drop, Owned, Plan, Put, Thing
from shiftwork_agent.install.plan import plan
from shiftwork_agent.install.wanted import Accounts, Wanted, wanted
from shiftwork_contract.appspec import FileEntry, Permission, ServerAppSpec
from shiftwork_contract.errors import InvalidRequest

FILE, LINK, DIR, DEVICE = Thing("file"), Thing("link"), Thing("dir", 0o755), Thing("other")


class FakeHost:
    def __init__(self, things: Mapping[str, Thing]) -> None:
        self._things = things

    def look(self, path: str) -> Thing | None:
        return self._things.get(path)

    def below(self, path: str) -> list[str]:
        return [other for other in self._things if other.startswith(path + "/")]


class FakeAccounts(Accounts):
    def uid(self, name: str) -> int:
        return {"app": 1000}[name]

    def gid(self, name: str) -> int:
        return {"ops": 2000}[name]


def make(
    want: Mapping[str, str],
    here: Mapping[str, Thing] | None = None,
    mine: Mapping[str, str] | None = None,
    behavior: str = "DISALLOW",
) -> Plan:
    """`want` and `mine`: path -> kind, where a kind of mine may be followed by the name of a saved original."""
    wants = {path: Wanted(path, path, kind, "src") for path, kind in sorted(want.items())}  # type: ignore[arg-type]
    owned = {path: Owned(path, *what.split()) for path, what in (mine or {}).items()}  # type: ignore[arg-type]
    return plan(wants, owned, FakeHost(here or {}), behavior, "t")


def puts(made: Plan) -> dict[str, Put]:
    return {put.path: put for put in made.puts}


def test_a_new_directory_is_made_aside_with_all_it_holds_and_swapped_once() -> None:
    made = make({"/a": "dir", "/a/b": "dir", "/a/b/f": "file"})
    assert [put.swap for put in made.puts] == [True, False, False]
    assert puts(made)["/a/b/f"].staged == "/.shiftwork-t-1/b/f"
    assert [one.path for one in made.owned] == ["/a", "/a/b", "/a/b/f"]


def test_a_foreign_directory_is_used_and_never_owned() -> None:
    made = make({"/a": "dir", "/a/f": "file"}, {"/a": DIR})
    assert list(puts(made)) == ["/a/f"] and [one.path for one in made.owned] == ["/a/f"]


@pytest.mark.parametrize(
    ("want", "here", "mine", "behavior"),
    [
        ("file", FILE, "", "DISALLOW"),
        ("file", LINK, "", "DISALLOW"),
        ("link", FILE, "", "DISALLOW"),
        ("file", DIR, "", "OVERWRITE"),
        ("file", DEVICE, "", "OVERWRITE"),
        ("dir", FILE, "", "OVERWRITE"),
        ("dir", LINK, "", "OVERWRITE"),
        ("dir", FILE, "dir", "OVERWRITE"),
        ("file", DEVICE, "file", "OVERWRITE"),
    ],
)
def test_what_is_in_the_way_is_refused(want: str, here: Thing, mine: str, behavior: str) -> None:
    with pytest.raises(InvalidRequest) as err:
        make({"/a": want}, {"/a": here}, {"/a": mine} if mine else {}, behavior)
    assert err.value.code == "FileExists" and "/a" in err.value.message


def test_overwrite_saves_what_is_foreign_and_keeps_it_while_it_owns_the_path() -> None:
    made = make({"/a": "file"}, {"/a": FILE}, behavior="OVERWRITE")
    save = puts(made)["/a"].save
    assert save and made.owned == (Owned("/a", "file", save),)
    again = make({"/a": "file"}, {"/a": FILE}, {"/a": f"file {save}"})
    assert puts(again)["/a"].save == "" and again.owned == made.owned
    given_up = make({}, {"/a": FILE}, {"/a": f"file {save}"})
    assert puts(given_up)["/a"].original == save and given_up.owned == ()


def test_retain_neither_touches_nor_owns() -> None:
    assert make({"/a": "file"}, {"/a": FILE}, behavior="RETAIN") == Plan()


def test_an_owned_directory_with_a_foreign_file_does_not_become_a_file() -> None:
    with pytest.raises(InvalidRequest, match="/a/mine"):
        make({"/a": "file"}, {"/a": DIR, "/a/x": FILE, "/a/mine": FILE}, {"/a": "dir", "/a/x": "file"})
    made = make({"/a": "file"}, {"/a": DIR, "/a/x": FILE}, {"/a": "dir", "/a/x": "file"})
    assert puts(made)["/a"].aside and made.drops == () and made.leave == ()


def test_what_the_new_revision_lacks_is_dropped_deepest_directory_first() -> None:
    made = make(
        {}, {"/a": DIR, "/a/b": DIR, "/a/b/f": FILE}, {"/a": "dir", "/a/b": "dir", "/a/b/f": "file", "/gone": "file"}
    )
    assert made.drops == (Drop("/a/b/f", "/a/b/.shiftwork-t-1.former"),)
    assert made.leave == ("/a/b", "/a")


def test_a_path_whose_file_someone_made_a_directory_is_left_alone() -> None:
    assert make({}, {"/a": DIR}, {"/a": "file"}).drops == ()


LISTING = {
    "app": DIR, "app/a.txt": FILE, "app/b.sh": Thing("file", 0o755), "app/sub": DIR, "app/sub/c.txt": FILE,
    "app/sub/deep": DIR, "app/sub/deep/d.txt": FILE, "app/l": LINK, "one": FILE, "appx": FILE,
}  # fmt: skip


def spread(*files: tuple[str, str], permissions: tuple[Permission, ...] = ()) -> dict[str, Wanted]:
    spec = ServerAppSpec(files=tuple(FileEntry(*file) for file in files), permissions=permissions)
    return wanted(spec, LISTING, lambda path: path, FakeAccounts())


def test_a_directory_spreads_its_content_and_a_file_itself() -> None:
    found = spread(("app", "/d"), ("one", "/e/f"))
    assert {path: one.kind for path, one in found.items() if one.source} == {
        "/d/a.txt": "file", "/d/b.sh": "file", "/d/l": "link", "/d/sub": "dir", "/d/sub/c.txt": "file",
        "/d/sub/deep": "dir", "/d/sub/deep/d.txt": "file", "/e/f/one": "file",
    }  # fmt: skip
    assert list(found)[:2] == ["/d", "/d/a.txt"] and found["/d/b.sh"].mode == 0o755
    assert "/d/appx" not in found and "/d/app/a.txt" in spread(("", "/d"))


def test_sources_that_are_missing_or_meet_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="nothing by that name"):
        spread(("nope", "/d"))
    with pytest.raises(InvalidRequest, match="same destination"):
        spread(("app/a.txt", "/d"), ("app", "/d"))
    with pytest.raises(InvalidRequest, match="same destination"):
        spread(("one", "/d"), ("app", "/d/one"))


def modes(*permissions: Permission) -> set[str]:
    return {path for path, one in spread(("app", "/d"), permissions=permissions).items() if one.look.mode is not None}


@pytest.mark.parametrize(
    ("pattern", "excepted", "types", "matched"),
    [
        ("**", (), ("file",), {"/d/a.txt", "/d/b.sh", "/d/l", "/d/sub/c.txt", "/d/sub/deep/d.txt"}),
        ("**", (), ("directory",), {"/d/sub", "/d/sub/deep"}),
        ("*.txt", (), ("file",), {"/d/a.txt"}),
        ("*.txt", ("a*",), ("file",), set()),
        ("**", ("sub",), ("directory",), {"/d/sub/deep"}),
        ("**/*.txt", (), ("file",), {"/d/a.txt", "/d/sub/c.txt", "/d/sub/deep/d.txt"}),
        ("sub/*.txt", (), ("file",), {"/d/sub/c.txt"}),
        ("**", ("sub/**",), ("file",), {"/d/a.txt", "/d/b.sh", "/d/l"}),
        ("a.t[x]t", (), ("file",), set()),
    ],
)
def test_patterns(pattern: str, excepted: tuple[str, ...], types: tuple[str, ...], matched: set[str]) -> None:
    assert modes(Permission("/d", pattern, excepted, types, "600")) == matched  # type: ignore[arg-type]


def test_permissions_name_ids_and_refuse_what_makes_no_sense() -> None:
    found = spread(("one", "/d"), permissions=(Permission("/d/one", owner="app", group="ops"),))
    assert (found["/d/one"].look.uid, found["/d/one"].look.gid) == (1000, 2000)
    with pytest.raises(InvalidRequest, match="no user 'nobody_x'"):
        spread(("one", "/d"), permissions=(Permission("/d/one", owner="nobody_x"),))
    with pytest.raises(InvalidRequest, match="except for /d/one"):
        spread(("one", "/d"), permissions=(Permission("/d/one", excepted=("x",)),))
    with pytest.raises(InvalidRequest, match="both match"):
        modes(Permission("/d", mode="600"), Permission("/d/sub", mode="600"))
    assert modes(Permission("/elsewhere", mode="600")) == set()
