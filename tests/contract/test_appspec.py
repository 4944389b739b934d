"""The AppSpec: what it means, and that every error says where and what to change."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftwork_contract import yamlmarks
from shiftwork_contract.appspec import AclEntry, Context, FileEntry, Hook, Permission, parse_server
from shiftwork_contract.errors import AppSpecError, InvalidRequest

HEAD = "version: 0.0\nos: linux\n"


def test_everything_an_appspec_can_say() -> None:
    spec = parse_server(
        HEAD
        + "file_exists_behavior: RETAIN\nfiles:\n  - source: /\n    destination: /opt/app/\n"
        + "  - source: conf/./a\n    destination: /etc//app\n"
        + "permissions:\n  - object: /opt/app\n    pattern: '*.sh'\n    except: [x.sh]\n    mode: 0750\n"
        + "    owner: app\n    group: 100\n    type: [file]\n    acls: ['u:bob:rw', 'd:g:ops:5', 'm::r']\n"
        + "    context: {user: system_u, type: httpd_t, range: 's0-s3:c0.c3,c7'}\n"
        + "hooks:\n  AfterInstall:\n    - location: /s/a.sh\n"
        + "    - {location: b.sh, timeout: 60, runas: app, sudo: true}\n"
    )
    assert spec.files == (FileEntry("", "/opt/app"), FileEntry("conf/a", "/etc/app"))
    assert spec.file_exists_behavior == "RETAIN"
    acls = (AclEntry("user", "bob", "rw-"), AclEntry("group", "ops", "r-x", True), AclEntry("mask", "", "r--"))
    assert spec.permissions == (
        Permission("/opt/app", "*.sh", ("x.sh",), ("file",), "0750", "app", "100", acls,
                   Context("httpd_t", "system_u", "s0-s3:c0.c3,c7")),
    )  # fmt: skip
    assert spec.hooks_for("AfterInstall") == (Hook("s/a.sh"), Hook("b.sh", 60, "app", True))
    assert spec.hooks_for("BeforeInstall") == () and spec.warnings == ()


@pytest.mark.parametrize(
    ("written", "mode"), [("0644", "0644"), ("644", "644"), ("'0644'", "0644"), ("7", "007"), ("4755", "4755")]
)
def test_a_mode_is_what_its_author_wrote(written: str, mode: str) -> None:
    spec = parse_server(f"{HEAD}permissions:\n  - object: /x\n    mode: {written}\n")
    assert spec.permissions[0].mode == mode


@pytest.mark.parametrize("version", ["0", "0.0", ".0", "0.00"])
def test_version_zero(version: str) -> None:
    assert parse_server(f"version: {version}\nos: linux\n").files == ()


REFUSED = {
    "": (1, 1, "empty"),
    "# nothing\n": (1, 1, "empty"),
    "[1]": (1, 1, "must be a mapping"),
    "os: linux": (1, 1, "add `version: 0.0`"),
    "version: '0.0'\nos: linux": (1, 10, "without quotes"),
    "version: 1\nos: linux": (1, 10, "1 is not supported"),
    "version: true\nos: linux": (1, 10, "must be the number"),
    "version: 0.0": (1, 1, "operating system"),
    "version: 0.0\nos: windows": (2, 5, "must be `linux`"),
    HEAD + "files: app": (3, 8, "must be a list"),
    HEAD + "files:\n  - source: a": (4, 5, "needs `destination`"),
    HEAD + "files:\n  - source:\n    destination: /a": (4, 12, "needs `source`"),
    HEAD + "files:\n  - source: a\n    destination: b": (5, 18, "absolute"),
    HEAD + "files:\n  - source: ../a\n    destination: /b": (4, 13, "leaves the bundle"),
    HEAD + "files:\n  - source: a\n    destination: /b/../c": (5, 18, "`..`"),
    HEAD + "file_exists_behavior: overwrite": (3, 23, "OVERWRITE"),
    HEAD + "file_exists_behavior:": (3, 22, "OVERWRITE"),
    HEAD + "hooks:\n  AfterInstall:\n    location: a": (5, 5, "must be a list"),
    HEAD + "hooks:\n  AfterInstall:\n    - timeout: 3": (5, 7, "needs `location`"),
    HEAD + "hooks:\n  AfterInstall:\n    - location: a\n      timeout: 60s": (6, 16, "whole number of seconds"),
    HEAD + "hooks:\n  AfterInstall:\n    - location: a\n      timeout: 0": (6, 16, "above 0"),
    HEAD + "hooks:\n  AfterInstall:\n    - location: a\n      timeout: 1e3": (6, 16, "whole number"),
    HEAD + "hooks:\n  AfterInstall:\n    - location: ../../bin/sh": (5, 17, "leaves the bundle"),
    HEAD + "hooks:\n  AfterInstall:\n    - location: a\n      sudo: 'false'": (6, 13, "without quotes"),
    HEAD + "permissions:\n  - mode: 644": (4, 5, "needs `object`"),
    HEAD + "permissions:\n  - object: /a\n    mode: 12345": (5, 11, "octal digits"),
    HEAD + "permissions:\n  - object: /a\n    mode: 0o644": (5, 11, "octal digits"),
    HEAD + "permissions:\n  - object: /a\n    mode: 689": (5, 11, "octal digits"),
    HEAD + "permissions:\n  - object: /a\n    type: [files]": (5, 11, "file and directory"),
    HEAD + "permissions:\n  - object: /a\n    acls: ['u::rw']": (5, 12, "u::rw"),
    HEAD + "permissions:\n  - object: /a\n    acls: ['m:x:rw']": (5, 12, "takes no name"),
    HEAD + "permissions:\n  - object: /a\n    acls: ['u:x:rww']": (5, 12, "letters of rwx"),
    HEAD + "permissions:\n  - object: /a\n    acls: ['z:x:r']": (5, 12, "write it as"),
    HEAD + "permissions:\n  - object: /a\n    context: {name: u}": (5, 14, "needs `type`"),
    HEAD + "permissions:\n  - object: /a\n    context: {type: t, range: s3-s0}": (5, 31, "below"),
    HEAD + "permissions:\n  - object: /a\n    context: {type: t, range: 's0:c1,c1'}": (5, 31, "repeated"),
    HEAD + "permissions:\n  - object: /a\n    context: {type: t, range: 's0:c2000'}": (5, 31, "above c1023"),
    HEAD + "os: linux": (3, 1, "there twice"),
    HEAD + "x: &a 1\ny: *a": (3, 4, "anchors and aliases"),
    HEAD + "x: !!python/object:os.system 1": (3, 4, "tags"),
    HEAD + "? [a]\n: 1": (3, 3, "key must be plain text"),
    HEAD + "x: " + "[" * 40 + "]" * 40: (3, 35, "nested more than 32"),
    HEAD + "x: [": (4, 1, "not valid YAML"),
    HEAD + "\tx: 1": (3, 1, "not valid YAML"),
    HEAD + "---\nx: 1": (3, 1, "not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_an_error_says_where_and_what(text: str) -> None:
    line, column, part = REFUSED[text]
    with pytest.raises(AppSpecError) as err:
        parse_server(text, "web/appspec.yml")
    assert part in err.value.message
    assert err.value.message.startswith(f"web/appspec.yml:{line}:{column}: ")


def test_all_sections_are_heard() -> None:
    with pytest.raises(AppSpecError) as err:
        parse_server("version: 9\nos: mac\nfiles: 1\n")
    assert (
        "9 is not supported" in err.value.problem and "line 2:" in err.value.problem and "line 3:" in err.value.problem
    )


def test_what_has_no_effect_is_a_warning() -> None:
    spec = parse_server(
        HEAD + "name: x\nhooks:\n  Install:\n    - location: a\n  Smoke:\n    - location: b\n  AfterInstall:\n"
    )
    assert [w.split(": ", 1)[0] for w in spec.warnings] == ["appspec.yml:6", "appspec.yml:8", "appspec.yml:3"]
    assert spec.hooks_for("Smoke") == (Hook("b"),)
    with pytest.raises(AppSpecError, match="Smoke"):
        parse_server(HEAD + "hooks:\n  Smoke:\n    - location: b\n", events=["AfterInstall"])


def test_bytes_with_a_mark_are_utf8_and_others_are_refused() -> None:
    assert parse_server(b"\xef\xbb\xbf" + HEAD.encode()).os == "linux"
    with pytest.raises(AppSpecError, match="byte 26 is not UTF-8"):
        parse_server(HEAD.encode() + b"x: \xff")
    with pytest.raises(AppSpecError, match="at most"):
        parse_server("#" * (2 << 20))


class Health(msgspec.Struct, forbid_unknown_fields=True):
    port: int = 1


class Group(msgspec.Struct, forbid_unknown_fields=True):
    health: Health | None = None
    tags: dict[str, list[str]] = {}


class Document(msgspec.Struct, forbid_unknown_fields=True):
    groups: dict[str, Group]


LOADED = {
    "groups:\n  a: {}\n  b:\n    health:\n      port: x\n": "5:13: Expected `int`, got `str` in `groups.b.health.port`",
    "groups:\n  a:\n    tags: {x: [y], z: [1]}\n": "3:24: Expected `str`, got `int` in `groups.a.tags.z[0]`",
    "groups:\n  a: {}\n  b:\n    healt: 1\n": "4:12: Object contains unknown field `healt`",
    "x: 1\n": "1:4: Object contains unknown field `x`",
    "groups: [1]\n": "1:9: Expected `object`, got `array` in `groups`",
    "{}\n": "1:1: Object missing required field `groups`",
    "": "1:1: the file is empty",
}


@pytest.mark.parametrize("text", LOADED)
def test_load_names_the_place_of_what_does_not_fit(text: str) -> None:
    with pytest.raises(yamlmarks.YamlError) as err:
        yamlmarks.load(text, "shiftwork.yml", Document)
    assert err.value.message.startswith(f"shiftwork.yml:{LOADED[text]}")


def test_load_gives_the_values() -> None:
    found = yamlmarks.load("groups:\n  a: {tags: {k: ['1', yes-no, 2024-01-01]}}\n", "f", Document)
    assert found.groups["a"].tags == {"k": ["1", "yes-no", "2024-01-01"]}


PIECES = st.sampled_from([
    HEAD, "version: 0.0\n", "os: linux\n", "files:\n", "  - source: a\n", "    destination: /b\n", "hooks:\n",
    "  AfterInstall:\n", "    - location: x\n", "      timeout: 5\n", "permissions:\n", "  - object: /\n",
    "    mode: 644\n", "    acls: [", "]\n", "{", "}", "&a ", "*a ", "!!int ", "- ", ": ", "\t", "'", '"', "|\n", "? ",
    "0x", "~\n", ".inf\n", "2024-99-99\n", "\x85", "é", "1" * 400,
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.text(max_size=4), max_size=14).map("".join))
def test_whatever_is_written_ends_in_an_appspec_or_an_appspec_error(text: str) -> None:
    with contextlib.suppress(AppSpecError):
        parse_server(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_load_raises_nothing_else_either(noise: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        yamlmarks.load(noise, "f", Document)


STRICT = {
    "permissions:\n  - {object: /x, mode: 0644}": "420",
    "permissions:\n  - {object: /x, mode: 644}": "644",
    "permissions:\n  - {object: /x, mode: ''}": "000",
    "permissions:\n  - {object: /x, mode: 0755}": "reads it as '493'",
    "hooks:\n  AfterInstall:\n    - {location: a, timeout: 60s}": 60,
    "hooks:\n  AfterInstall:\n    - {location: a, timeout: 1e3}": 1,
    "hooks:\n  AfterInstall:\n    - {location: a, timeout: 0100}": 64,
    "hooks:\n  AfterInstall:\n    - {location: a, timeout: soon}": "must begin with a number",
    "hooks:\n  AfterInstall:\n    - {location: a, sudo: 'false'}": True,
    "hooks:\n  AfterInstall:\n    - {location: a, sudo: false}": False,
    "os: linux": 0,
    "---\nos: mac": 0,
    "x: &a 1\ny: *a": "anchors and aliases",
    "files:\n  - {source: ../a, destination: /b}": "leaves the bundle",
}


@pytest.mark.parametrize("text", STRICT)
def test_strict_reads_as_codedeploy_does_and_never_outside_the_bundle(text: str) -> None:
    wanted = STRICT[text]
    try:
        spec = parse_server(HEAD + text, strict=True)
    except AppSpecError as err:
        assert isinstance(wanted, str) and wanted in err.message
        return
    hook = spec.hooks_for("AfterInstall")
    found = {*(p.mode for p in spec.permissions), *(h.sudo if "sudo" in text else h.timeout for h in hook)}
    assert found == ({wanted} if spec.permissions or hook else set())


def test_empty_values_count_as_absent() -> None:
    spec = parse_server(
        HEAD + "hooks:\n  AfterInstall:\n    - {location: a, timeout: , runas: , sudo: }\n"
        "permissions:\n  - {object: /x, mode: , owner: , type: , acls: , context: , pattern: , except: }\n"
    )
    assert spec.hooks_for("AfterInstall") == (Hook("a"),) and spec.permissions == (Permission("/x"),)
