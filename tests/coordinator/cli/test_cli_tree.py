"""The command tree itself: complete, consistent, and quick to say what it has."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from shiftwork_coordinator.cli.root import COMMANDS, root

HEAVY = ("aiohttp", "rich", "sqlalchemy", "boto3", "msgspec", "yaml", "asyncssh")
PROBE = """
import sys
from shiftwork_coordinator.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    print("loaded:", [name for name in {heavy!r} if name in sys.modules], ended.code)
"""


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["token", "--help"],
        ["instances", "--help"],
        ["deploy", "--help"],
        ["bootstrap", "--help"],
        ["nonsense"],
    ],
)
def test_help_loads_nothing_heavy(args):
    ran = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *args], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1].startswith("loaded: [] ")


OWN = [name for name, (place, _) in COMMANDS.items() if ".cli.cli" not in place and ".lab." not in place]


@pytest.mark.parametrize("name", [name for name in OWN if name != "demo"])
def test_the_table_says_what_the_command_says(name):
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name][1]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_and_json(name):
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.help
    if name not in ("serve", "ecs", "aws", "sam", "token", "trust", "lab"):
        assert "--output" in {opt for param in command.params for opt in param.opts}
