"""Installing: what ends up where, and that a kill before any single step leaves the former or the new state, whole."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agent.world import FILES, Tree, World, old_and_command, write

from shiftwork_contract.errors import HostileBundle, InvalidRequest, ShiftworkError
from shiftwork_contract.messages import Command


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_links_of_world_are_what_they_seem(world: World) -> None:
    write(world.root, {"a": ("link", "b")})
    assert world.tree() == {"a": ("link", "b")}


async def test_files_directories_links_and_modes_arrive(world: World) -> None:
    command = await world.deploy(
        {"app/a.txt": "A", "app/.h": "h", "app/run.sh": ("r", 0o755), "app/sub/d": ("d", 0o600), "app/empty": ("dir",),
         "app/to": ("link", "sub"), "app/out": ("link", "/nowhere")}
    )  # fmt: skip
    tree = world.tree()
    assert tree["srv/app/a.txt"] == ("file", b"A", 0o644, os.getuid(), os.getgid(), 1_700_000_000 * 10**9)
    assert tree["srv/app/run.sh"][2] == 0o755 and tree["srv/app/sub/d"][2] == 0o600
    assert tree["srv/app/to"] == ("link", "sub") and tree["srv/app/out"] == ("link", "/nowhere")
    assert tree["srv/app/empty"][0] == "dir" and "srv/app/.h" in tree
    state = world.installer().installed("g")
    assert (state.installed, state.installed_by, state.last_sequence) == (command.revision.identity, "d-1", 1)
    assert world.installer().groups() == [state]


async def test_the_next_revision_removes_what_it_lacks_and_nothing_foreign(world: World) -> None:
    await world.deploy({"app/keep": "1", "app/old": "o", "app/olddir/x": "x", "app/mixed/theirs": "t"})
    write(world.root, {"srv/app/mixed/mine": "m"})
    await world.deploy({"app/keep": "2"})
    assert {name: what[1] for name, what in world.tree().items() if what[0] == "file"} == {
        "srv/app/keep": b"2", "srv/app/mixed/mine": b"m",
    }  # fmt: skip
    assert "srv/app/olddir" not in world.tree()


async def test_a_foreign_file_stops_everything_before_anything(world: World) -> None:
    await world.deploy({"app/a": "1"})
    write(world.root, {"srv/app/b": "mine"})
    before = world.tree()
    with pytest.raises(InvalidRequest, match="/srv/app/b already exists"):
        await world.deploy({"app/a": "2", "app/b": "2"})
    assert world.tree() == before


async def test_overwritten_files_come_back_exactly(world: World) -> None:
    write(world.root, {"srv/app/a": ("mine", 0o640), "srv/app/l": ("link", "/mine")})
    before = world.tree()
    await world.deploy({"app/a": "1", "app/l": "1"}, file_exists_behavior="OVERWRITE")
    assert world.tree()["srv/app/l"][1] == b"1"
    await world.deploy({"app/a": "2", "app/l": "2"})
    await world.deploy({"app/other": "3"})
    after = world.tree()
    assert after.pop("srv/app/other")[1] == b"3"
    assert after == before
    assert list((world.state / "groups/g/originals").iterdir()) == []


async def test_an_overwritten_file_comes_back_even_from_under_a_directory(world: World) -> None:
    write(world.root, {"srv/app/a": ("mine", 0o640)})
    before = world.tree()
    await world.deploy({"app/a": "1"}, file_exists_behavior="OVERWRITE")
    await world.deploy({"app/a/b/c": "2"})
    assert world.tree()["srv/app/a/b/c"][1] == b"2"
    await world.deploy({"app": ("dir",)})
    assert world.tree() == before


@pytest.mark.skipif(shutil.which("setfacl") is not None, reason="this host has setfacl")
async def test_a_missing_tool_is_named_and_nothing_is_changed(world: World) -> None:
    await world.deploy({"app/a": "1"})
    before = world.tree()
    with pytest.raises(ShiftworkError, match="install the package 'acl'"):
        await world.deploy({"app/a": "2"}, FILES + "permissions:\n  - object: /srv/app/a\n    acls: ['u:nobody:r']\n")
    with pytest.raises(ShiftworkError, match="SELinux is not enabled"):
        await world.deploy({"app/a": "2"}, FILES + "permissions:\n  - object: /srv/app/a\n    context: {type: t}\n")
    assert world.tree() == before


async def test_a_tool_that_hangs_is_named_and_nothing_is_changed(world: World, monkeypatch: Any) -> None:
    await world.deploy({"app/a": "1"})
    before = world.tree()
    (world.tmp / "setfacl").write_text("#!/bin/sh\nexec sleep 60\n")
    (world.tmp / "setfacl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{world.tmp}:/usr/bin:/bin")
    monkeypatch.setattr("shiftwork_agent.install.looks.LIMIT", 0.1)
    with pytest.raises(ShiftworkError, match=r"setfacl .*did not end within 0\.1 s"):
        await world.deploy({"app/a": "2"}, FILES + "permissions:\n  - object: /srv/app/a\n    acls: ['u:root:r']\n")
    assert world.tree() == before


async def test_retain_keeps_foreign_files_and_never_owns_them(world: World) -> None:
    write(world.root, {"srv/app/a": "mine"})
    await world.deploy({"app/a": "1", "app/b": "1"}, file_exists_behavior="RETAIN")
    await world.deploy({"app/c": "2"}, file_exists_behavior="RETAIN")
    assert set(world.tree()) == {"srv", "srv/app", "srv/app/a", "srv/app/c"}
    assert world.tree()["srv/app/a"][1] == b"mine"


async def test_the_appspec_beats_the_option(world: World) -> None:
    write(world.root, {"srv/app/a": "mine"})
    strict = FILES + "file_exists_behavior: DISALLOW\n"
    with pytest.raises(InvalidRequest, match="already exists"):
        await world.deploy({"app/a": "1"}, strict, file_exists_behavior="OVERWRITE")


async def test_nothing_is_written_through_a_link_at_the_destination(world: World) -> None:
    write(
        world.root, {"etc/passwd": "root", "srv/app/conf": ("link", "/etc"), "srv/app/l": ("link", "../../etc/passwd")}
    )
    with pytest.raises(InvalidRequest, match="a link is there"):
        await world.deploy({"app/conf/passwd": "x"}, file_exists_behavior="OVERWRITE")
    await world.deploy({"app/l": "x"}, file_exists_behavior="OVERWRITE")
    assert world.tree()["etc/passwd"][1] == b"root" and world.tree()["srv/app/l"][1] == b"x"


async def test_a_link_on_the_way_is_followed_only_if_root_made_it(tmp_path: Path) -> None:
    from shiftwork_agent.install.host import RealHost

    write(tmp_path, {"data/x": "x", "way": ("link", "data"), "loose": ("dir",)})
    assert RealHost(Path("/")).resolve(str(tmp_path / "way/app")) == str(tmp_path / "data/app")
    (tmp_path / "loose").chmod(0o777)
    write(tmp_path, {"loose/way": ("link", "../data")})
    with pytest.raises(InvalidRequest, match="a link that root has not made"):
        RealHost(Path("/")).resolve(str(tmp_path / "loose/way/app"))


async def test_what_is_owned_below_a_directory_that_became_a_link_is_left_alone(world: World) -> None:
    await world.deploy({"app/conf/passwd": "1", "app/a": "1"})
    write(world.root, {"etc/passwd": "root"})
    (world.root / "srv/app/conf/passwd").unlink()
    (world.root / "srv/app/conf").rmdir()
    write(world.root, {"srv/app/conf": ("link", "/etc")})
    await world.deploy({"app/a": "2"})
    assert world.tree()["etc/passwd"][1] == b"root" and world.tree()["srv/app/conf"] == ("link", "/etc")


async def test_groups_do_not_clean_each_other(world: World) -> None:
    await world.deploy({"app/a": "a"}, group="one")
    await world.deploy({"app/b": "b"}, group="two")
    assert {"srv/app/a", "srv/app/b"} <= set(world.tree())


async def test_groups_install_beside_each_other_into_one_directory(world: World) -> None:
    installer = world.installer()
    commands = [
        world.command({f"app/{name}/{n}": f"{name} {n}" for n in range(30)}, group=name)
        for name in ("one", "two", "three")
    ]
    await asyncio.gather(*(installer.prepare(command) for command in commands))
    await asyncio.gather(*(installer.install(command) for command in commands))
    files = {name for name, what in world.tree().items() if what[0] == "file"}
    assert files == {f"srv/app/{name}/{n}" for name in ("one", "two", "three") for n in range(30)}
    await world.deploy({"app/two/new": "x"}, group="two")
    assert {name for name in files if "/two/" not in name} == set(world.tree()) & files, "only its own were replaced"


async def test_what_another_group_has_installed_is_foreign(world: World) -> None:
    first = await world.deploy({"app/config": "one's"}, group="one")
    with pytest.raises(ShiftworkError, match=r"/srv/app/config already exists and the deployment group a/g "):
        await world.deploy({"app/config": "two's", "app/more": "x"}, group="two")
    assert (world.root / "srv/app/config").read_text() == "one's"
    assert not (world.root / "srv/app/more").exists()
    installed = {state.group_id: state.installed for state in world.installer().groups()}
    assert installed == {"one": first.revision.identity}


@pytest.mark.skipif(os.getuid() != 0, reason="changing owners takes root")
async def test_permissions(world: World) -> None:
    appspec = FILES + (
        "permissions:\n"
        "  - {object: /srv/app, pattern: '*.txt', except: [no.txt], mode: 0600, owner: nobody, type: [file]}\n"
        "  - {object: /srv/app/sub, mode: 4755, owner: nobody, group: nogroup, type: [file]}\n"
    )
    await world.deploy({"app/a.txt": "a", "app/no.txt": "n", "app/b.sh": "b", "app/sub/c.txt": "c"}, appspec)
    modes = {name.removeprefix("srv/app/"): what[2:4] for name, what in world.tree().items() if what[0] == "file"}
    assert modes == {"a.txt": (0o600, 65534), "no.txt": (0o644, 0), "b.sh": (0o644, 0), "sub/c.txt": (0o4755, 65534)}


async def test_a_revision_is_fetched_once_and_again_only_if_a_script_has_changed_it(world: World) -> None:
    command = await world.deploy({"app/a": "1"})
    await world.installer().prepare(command)
    assert len(world.fetcher.fetched) == 1
    inside = world.installer().bundle_dir(command.revision.identity) / "app/a"
    inside.write_text("changed")
    await world.installer().prepare(command)
    assert len(world.fetcher.fetched) == 2 and inside.read_text() == "1"
    inside.write_text("changed")
    await world.installer().prepare(msgspec.structs.replace(command, group_id="other", file_exists_behavior="RETAIN"))
    assert len(world.fetcher.fetched) == 2, "the first group runs from that tree"


async def test_a_tree_that_may_be_running_is_not_replaced(world: World) -> None:
    command = await world.deploy({"app/a": "1"})
    inside = world.installer().bundle_dir(command.revision.identity) / "app/a"
    inside.write_text("changed")
    await world.installer().prepare(command, serving=True)
    assert inside.read_text() == "changed", "the application may run from there"
    await world.installer().prepare(command)
    assert inside.read_text() == "1"


async def test_strict_leaves_the_judgement_to_the_events(world: World) -> None:
    await world.deploy({"app/a": "1"})
    command = world.command({"app/a": "2"}, FILES.replace("source: app", "source: nope"), compat="strict")
    await world.installer().prepare(command)
    with pytest.raises(InvalidRequest, match="nope"):
        await world.installer().install(command)
    with pytest.raises(InvalidRequest, match="nope"):
        await world.installer().prepare(msgspec.structs.replace(command, compat=""))


async def test_a_named_appspec_stays_with_its_revision(world: World) -> None:
    spec = FILES + "hooks:\n  ApplicationStop:\n    - location: {}\n"
    made = world.command({"app/a": "1", "one.yml": spec.format("one.sh")}, spec.format("no.sh"))
    first = msgspec.structs.replace(made, appspec="one.yml")
    await world.installer().install(first)
    second = world.command({"app/a": "2"}, spec.format("two.sh"))
    assert world.installer().appspec(second, installed=True).hooks_for("ApplicationStop")[0].location == "one.sh"
    with pytest.raises(InvalidRequest, match=r"other\.yml"):
        await world.installer().prepare(msgspec.structs.replace(first, appspec="other.yml"))
    (world.installer().bundle_dir(first.revision.identity) / "l.yml").symlink_to("one.yml")
    with pytest.raises(InvalidRequest, match=r"l\.yml"):
        world.installer().appspec(msgspec.structs.replace(first, appspec="l.yml"))


async def test_a_bundle_without_appspec_fails_prepare(world: World) -> None:
    with pytest.raises(InvalidRequest, match="no AppSpec by this name"):
        await world.installer().prepare(world.command({"app/a": "1"}, appspec=None))


async def test_what_is_installed_or_kept_survives_pruning(world: World) -> None:
    first = await world.deploy({"app/a": "0"}, group="one")
    kept = await world.deploy({"app/b": "0"}, group="two")
    for n in range(1, 8):
        await world.deploy({"app/b": str(n)}, group="two", keep=(kept.revision.identity,))
    stored = {about.identity for about in world.installer().store.stored()}
    assert {first.revision.identity, kept.revision.identity} <= stored and len(stored) == 5


async def test_a_group_id_is_one_name(world: World) -> None:
    with pytest.raises(InvalidRequest, match="as a name"):
        await world.deploy({"app/a": "1"}, group="../../etc")


async def test_permissions_of_a_directory_both_revisions_have_change(world: World) -> None:
    with_mode = FILES + "permissions:\n  - object: /srv/app\n    mode: {}\n    type: [directory]\n"
    await world.deploy({"app/sub/a": "a"}, with_mode.format("750"))
    assert world.tree()["srv/app/sub"] == ("dir", 0o750)
    await world.deploy({"app/sub/a": "b"}, with_mode.format("0700"))
    assert world.tree()["srv/app/sub"] == ("dir", 0o700)


async def test_an_unknown_owner_changes_nothing(world: World) -> None:
    await world.deploy({"app/a": "1"})
    before = world.tree()
    appspec = FILES + "permissions:\n  - object: /srv/app/a\n    owner: no_such_user_x\n"
    with pytest.raises(InvalidRequest, match="no_such_user_x"):
        await world.deploy({"app/a": "2"}, appspec)
    assert world.tree() == before


async def test_what_a_beforeinstall_script_may_put_right_passes_prepare(world: World) -> None:
    write(world.root, {"srv/app/a": "mine"})
    appspec = FILES + "hooks:\n  BeforeInstall:\n    - location: clear.sh\n"
    command = world.command({"app/a": "1", "clear.sh": "#!/bin/sh"}, appspec)
    installer = world.installer()
    await installer.prepare(command)
    with pytest.raises(InvalidRequest, match="already exists"):
        await installer.install(command)
    (world.root / "srv/app/a").unlink()
    await installer.install(command)
    assert world.tree()["srv/app/a"][1] == b"1"


async def test_a_kill_at_every_step_ends_in_the_former_or_the_new_state(tmp_path: Path) -> None:
    reference = World(_made(tmp_path / "reference"))
    command = await old_and_command(reference)
    former, steps = reference.tree(), list[str]()
    reference.step = steps.append
    await reference.installer().install(command)
    new = reference.tree()
    assert former != new and len(steps) > 30
    ended = set()
    for kill_at in range(len(steps)):
        world = World(_made(tmp_path / str(kill_at)))
        command = await old_and_command(world)
        world.step = _killer(kill_at)
        with pytest.raises(Killed):
            await world.installer().install(command)
        world.step = lambda name: None
        await world.installer().recover()
        ended.add(_assert_whole(world, command, former, new, f"killed before {steps[kill_at]!r}"))
        await world.installer().install(command)
        assert world.tree() == new, f"deployed again after a kill before {steps[kill_at]!r}"
    assert ended == {"former", "new"}


async def test_a_kill_at_every_step_of_the_recovery_too(tmp_path: Path) -> None:
    """Forward from a kill while swapping, and back from a failed swap, both cut once more at every step."""
    reference = World(_made(tmp_path / "reference"))
    command = await old_and_command(reference)
    former, steps = reference.tree(), list[str]()
    reference.step = steps.append
    await reference.installer().install(command)
    new = reference.tree()
    for swap in (steps.index("swapping") + 5, len(steps) - 12):
        for again in range(0, 60):
            world = World(_made(tmp_path / f"{swap}-{again}"))
            command = await old_and_command(world)
            world.step = _killer(swap)
            with pytest.raises(Killed):
                await world.installer().install(command)
            world.step = _killer(again)
            try:
                await world.installer().recover()
                break
            except Killed:
                world.step = lambda name: None
                await world.installer().recover()
                assert _assert_whole(world, command, former, new, f"{swap}/{again}") == "new"


async def test_a_swap_that_fails_goes_back_and_a_kill_on_the_way_back_too(tmp_path: Path) -> None:
    for fail_at in ("swap /srv/app/was_dir", "swap /srv/app/same", "installed"):
        for again in range(0, 80):
            world = World(_made(tmp_path / f"{fail_at.replace('/', '_')}{again}"))
            command = await old_and_command(world)
            former = world.tree()
            world.step = _failing(fail_at, again)
            with pytest.raises((ShiftworkError, Killed)) as err:
                await world.installer().install(command)
            world.step = lambda name: None
            await world.installer().recover()
            if again == 0:  # killed before the way back was decided on: the start goes on forward, to the end
                assert world.installer().installed("g").installed_by == command.deployment_id
                assert world.tree() != former
                continue
            assert world.tree() == former, f"{fail_at}, then killed {again} steps later"
            assert world.installer().installed("g").installed_by == "d-1"
            if err.type is not Killed:
                break
        else:
            pytest.fail("the way back never came to its end")


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _killer(at: int) -> Callable[[str], None]:
    left = iter(range(at, -1, -1))

    def step(name: str) -> None:
        if next(left, -1) == 0:
            raise Killed

    return step


def _failing(name: str, then_kill_after: int) -> Callable[[str], None]:
    failed = False
    left = then_kill_after

    def step(here: str) -> None:
        nonlocal failed, left
        if here == name:
            failed = True
            raise OSError(5, "Input/output error")
        if failed:
            left -= 1
            if left < 0:
                raise Killed

    return step


def _assert_whole(world: World, command: Command, former: Any, new: Any, when: str) -> str:
    tree = world.tree()
    assert tree in (former, new), when
    side = "new" if tree == new else "former"
    wanted = command.deployment_id if side == "new" else "d-1"
    assert world.installer().installed("g").installed_by == wanted, when
    group = world.state / "groups/g"
    assert sorted(path.name for path in group.iterdir()) == ["installed.json", "originals"], when
    assert len(list((group / "originals").iterdir())) == (2 if side == "new" else 0), when
    return side


@pytest.mark.parametrize("name", ["installed.json", "change.json"])
async def test_damaged_notes_of_a_group_are_named_and_stop_no_other(name: str, world: World) -> None:
    await world.deploy({"app/a": "1"})
    (world.state / "groups/g" / name).write_bytes(b"\0\0")
    await world.installer().recover()
    with pytest.raises(ShiftworkError, match=f"cannot read .*{name}"):
        await world.installer().install(world.command({"app/a": "2"}))


async def test_nothing_deeper_than_python_can_walk_is_installed(world: World) -> None:
    """Whatever walks a tree by recursion would end the daemon with it, again after each restart."""
    with pytest.raises(HostileBundle, match="levels deep"):
        await world.deploy({"app/" + "d/" * 300 + "f": "1"})
    with pytest.raises(InvalidRequest, match="levels deep"):
        await world.deploy({"app/f": "1"}, FILES.replace("/srv/app", "/d" * 1500))
    await world.deploy({"app/" + "d/" * 250 + "f": "1"}, FILES.replace("/srv/app", "/d" * 250))
    links: Tree = {f"app/{n}/next": ("link", f"../{n + 1}") for n in range(600)}
    command = world.command({**links, "app/600/f": "1"}, compat="strict")
    await world.installer().prepare(command)
    with pytest.raises(InvalidRequest, match="levels deep"):
        await world.installer().install(command)
