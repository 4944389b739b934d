"""What a person sees: the live view, the sentences, and that no hook can write to their terminal."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from shiftwork_coordinator.cli.follow import Back, Beat, Lost
from shiftwork_coordinator.cli.live import Live, picture
from shiftwork_coordinator.cli.output import clean, duration, size
from shiftwork_coordinator.cli.sse import Message, Parser
from shiftwork_coordinator.cli.views import Deployment
from shiftwork_coordinator.cli.words import reasons


class Still:
    """A clock that stands at 1012.5 s."""

    def now(self):
        return 1012.5

    def monotonic(self):
        return 0.0


def drawn(view, room=10, lost="", width=80):
    console = Console(record=True, width=width, height=24, file=io.StringIO(), force_terminal=True)
    console.print(picture(msgspec.convert(view, Deployment), 1012.5, room, lost))
    return console.export_text().splitlines()


def event(name, status, start=1000.0, end=None):
    return {"lifecycleEventName": name, "status": status, "startTime": start, "endTime": end}


def test_a_line_per_target_within_80_columns(view, make_target):
    targets = [
        make_target("web-1", "InProgress", 1, [event("Install", "InProgress"), event("AfterInstall", "Pending", None)]),
        make_target("web-2", "Failed", 1, [event("ValidateService", "Failed", 1000.0, 1003.0)]),
        make_target("web-3", "Succeeded", 1, completeTime=1008.0),
        make_target("a-very-long-name-of-an-instance-that-nobody-would-choose-but-somebody-has-4"),
    ]
    waiting = [{"code": "QUIET", "target": "web-1", "message": "3 requests in flight", "since": 1010.5, "until": None}]
    lines = drawn(view(targets=targets, waiting=waiting))
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "d-4K7Q2M9XA web/production: InProgress, 12 s"
    assert lines[1] == "batch 1 of 2, in service 2 of 4, minimum 2"
    assert lines[2].split() == ["▶", "web-1", "Install", "12", "s", "traffic", "out"]
    assert lines[3].split() == ["✘", "web-2", "ValidateService", "3.0", "s"]
    assert lines[4].split() == ["✔", "web-3", "Succeeded", "8.0", "s"]
    assert lines[5].split()[1].startswith("a-very-long-name-of-an-instance")
    assert lines[-1] == "  waiting: web-1: 3 requests in flight (for 2.0 s)"


def test_more_targets_than_room_shows_those_that_matter(view, make_target):
    targets = [make_target(f"web-{n}", "Succeeded") for n in range(200)]
    targets[150] = make_target("web-150", "Failed")
    targets[160] = make_target("web-160", "InProgress")
    lines = drawn(view(targets=targets), room=4)
    assert [line.split()[1] for line in lines[2:5]] == ["web-0", "web-150", "web-160"]
    assert lines[5].split() == ["and", "197", "more", "197", "Succeeded"]


def test_the_last_picture_stays_and_a_lost_connection_is_shown(view):
    file = io.StringIO()
    screen = Live(Console(file=file, width=80, height=24, force_terminal=True), Still())
    screen.show(Lost("cannot reach it"))
    screen.show(msgspec.convert(view(), Deployment))
    assert "connection lost: cannot reach it" in file.getvalue()
    screen.show(Back())
    before = len(file.getvalue())
    screen.show(Beat())
    assert "connection lost" not in file.getvalue()[before:]
    screen.close()
    assert "web-4" in file.getvalue()


@pytest.mark.parametrize(
    ("dirty", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;cm0gLXJm\x1b\\text", "text"),
        ("\x1bPq#0\x1b\\text", "text"),
        ("a\rb\x08c\x7f\x9b31m", "abc"),
        ("tab\tand\nline stay, as do ü and 日本", "tab\tand\nline stay, as do ü and 日本"),
        ("\x1b(Bcut\x1b", "cut"),
        ("\x1b]0;never ended", ""),
        ("\x1bcreset", "reset"),
    ],
)
def test_nothing_is_left_that_a_terminal_obeys(dirty, left):
    assert clean(dirty) == left


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (7801, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_sizes(count, text):
    assert size(count) == text


def test_many_reasons_are_counted(view):
    waiting = [{"code": "HOOK", "target": f"web-{n}", "message": "runs"} for n in range(9)]
    lines = reasons(msgspec.convert(view(waiting=waiting), Deployment), 0.0, most=3)
    assert lines == ["web-0: runs", "web-1: runs", "and 7 more: shiftwork why d-4K7Q2M9XA"]


def test_reasons_are_clean(view):
    waiting = [{"code": "HEALTH", "target": "web-1", "message": "its check says \x1b[2Jno"}]
    assert reasons(msgspec.convert(view(waiting=waiting), Deployment), 0.0, most=3) == ["web-1: its check says no"]


def test_events_split_anywhere_are_read_whole():
    stream = (
        ': hello\r\nid: 7\r\nevent: history\r\ndata: {"a":\r\ndata: "ü"}\r\n\r\nevent: view\ndata:x\n\n:\n\n'.encode()
    )
    for cut in range(len(stream)):
        parser = Parser()
        got = [*parser.feed(stream[:cut]), *parser.feed(stream[cut:])]
        assert got == [Message("history", '{"a":\n"ü"}', "7"), Message("view", "x")]
