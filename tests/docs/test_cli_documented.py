"""docs/cli.md has a section for every command, naming every option, and none for what does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from shiftwork_coordinator.cli.exits import DONE, FAILED, INTERRUPTED, INVALID, READER_GONE, UNREACHABLE
from shiftwork_coordinator.cli.root import root

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
SHARED = {"--output", "--data", "--help"}
"""Described once, for all commands that talk to the coordinator."""


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if path != "shiftwork":
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None, name
            yield from commands(found, f"{path} {name}")


TREE = dict(commands(root, "shiftwork"))


def missing(command: click.Command, text: str) -> list[str]:
    options = {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
    options |= {name for each in command.params for name in each.secondary_opts}
    return sorted(name for name in options - SHARED if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


@pytest.mark.parametrize("path", list(TREE))
def test_every_command_and_option_is_documented(path):
    assert path in SECTIONS, f"docs/cli.md has no section `{path}`"
    assert not missing(TREE[path], SECTIONS[path])


def test_nothing_is_documented_that_is_not_there():
    assert set(SECTIONS) == set(TREE)
    for path, text in SECTIONS.items():
        known = {name for each in TREE[path].params for name in (*each.opts, *each.secondary_opts)} | SHARED
        told = set(re.findall(r"^\| (`-.*?) \|", text, re.M))
        named = {name for cell in told for name in re.findall(r"(?<!\w)--?[a-z][\w-]*", cell)}
        assert named <= known, path


def test_an_option_that_is_not_told_is_found():
    assert missing(TREE["shiftwork stop"], "`--now`, `--rollbacks`") == ["--no-rollback", "--rollback"]


def test_every_exit_code_has_its_row():
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.M)}
    assert told == {DONE, FAILED, INVALID, UNREACHABLE, INTERRUPTED, READER_GONE}
