"""What to do next for one host: from the facts, and from nothing that was done before. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shiftwork_coordinator.bootstrap.facts import Look, Survey
from shiftwork_coordinator.bootstrap.packages import Package, choose, newer, upstream
from shiftwork_coordinator.pki import NAME

MEGABYTE = 1_000_000
LEAST_OPT = 200 * MEGABYTE
"""Bytes free where the agent is installed: two versions of it while one replaces the other."""
LEAST_GLIBC = (2, 17)
"""What a package from the portable CPython tree needs. One from a newer tree says so itself, and is not installed."""


@dataclass(frozen=True)
class Wish:
    """What the operator wants of every host. `sudo` None: where the user is not root; `password`: one was given."""

    packages: tuple[Package, ...] = ()
    url: str = ""
    ca: str = ""
    name_from: str = "hostname"
    rejoin: bool = False
    sudo: bool | None = None
    password: bool = False


@dataclass(frozen=True)
class Known:
    """What the coordinator knows of the instance of that name; `taken_by` is another host of this very run."""

    exists: bool = False
    revoked: bool = False
    connected: bool = False
    version: str = ""
    taken_by: str = ""


@dataclass(frozen=True)
class Install:
    package: Package


@dataclass(frozen=True)
class Join:
    name: str
    force: bool


@dataclass(frozen=True)
class Start:
    pass


@dataclass(frozen=True)
class Await:
    pass


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Refuse:
    problem: str
    remedy: str


Step = Install | Join | Start | Await | Done | Refuse


def unfit(look: Look, wish: Wish) -> Refuse | None:
    """Why no agent can run on this host, whatever it has already."""
    for refused in (_platform(look), _rights(look, wish)):
        if refused is not None:
            return refused
    return None


def _platform(look: Look) -> Refuse | None:
    if look.system != "Linux":
        return Refuse(f"cannot run an agent on {look.system or 'an unknown system'}", "the agent needs Linux")
    if not look.systemd:
        return Refuse("cannot run the agent's service: systemd does not run there", "use a host with systemd")
    if not look.glibc:
        return Refuse("cannot run the package's Python: the host has no glibc", "install the agent with pip there")
    if look.glibc < LEAST_GLIBC:
        return Refuse(
            f"cannot run the package's Python: glibc is {_dotted(look.glibc)}, the least is {_dotted(LEAST_GLIBC)}",
            "upgrade the distribution",
        )
    return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _rights(look: Look, wish: Wish) -> Refuse | None:
    if look.root:
        return None
    if wish.sudo is False:
        return Refuse(f"cannot become root: {look.user} is not, and --no-sudo was given", "log in as root")
    if look.sudo == "missing":
        return Refuse(f"cannot become root: {look.user} is not, and sudo is not installed", "log in as root")
    if look.sudo == "password" and not wish.password:
        return Refuse(
            f"cannot become root: sudo wants a password of {look.user}, or does not let them",
            "give them NOPASSWD in sudoers, use --ask-sudo-password, or log in as root",
        )
    return None


def name_of(look: Look, survey: Survey, host: str, wish: Wish) -> str:
    """What the instance is or will be called: an identity that is kept keeps its name."""
    if survey.instance and survey.ca == wish.ca:
        return survey.instance
    return host if wish.name_from == "address" else look.hostname


def next_step(look: Look, survey: Survey, known: Known, name: str, wish: Wish) -> Step:
    """Refused before anything is changed, if at all: a host gets all of it or stays as it was."""
    joined = bool(survey.instance) and survey.ca == wish.ca and known.exists and not known.revoked
    package = choose(wish.packages, look.format, look.machine)
    refused = _stranger(survey, known, name, wish, joined=joined) or _no_package(look, survey, package, wish)
    if refused is not None:
        return refused
    if package is not None and (not survey.version or newer(upstream(package.version), upstream(survey.version))):
        return _full(look, package) or Install(package)
    if not joined:
        return Join(name, force=bool(survey.instance))
    if not (survey.active and survey.enabled):
        return Start()
    return Done() if is_heard(known, survey) else Await()


def _stranger(survey: Survey, known: Known, name: str, wish: Wish, *, joined: bool) -> Refuse | None:
    if known.taken_by:
        return Refuse(
            f"cannot join as {name}: {known.taken_by} of this same run has that name",
            "use --name-from address, or give the hosts names of their own",
        )
    if joined:
        return None
    if survey.instance and not wish.rejoin:
        return Refuse(_elsewhere(survey, known, wish), "use --rejoin to give it a new identity of this coordinator")
    if not re.fullmatch(NAME, name):
        return Refuse(
            f"cannot join as {name[:80]!r}: a name has 1 to 63 letters, digits, dots, _ and -",
            "use the other --name-from, or change the host's name",
        )
    if known.exists and not known.revoked:
        return Refuse(
            f"cannot join as {name}: another host has joined by that name",
            f"use --name-from address, or run `shiftwork revoke {name}` if that host is gone",
        )
    return None


def _elsewhere(survey: Survey, known: Known, wish: Wish) -> str:
    if survey.ca != wish.ca:
        where = f"at {survey.url}" if survey.url else "elsewhere"
        return f"cannot join: it belongs to another coordinator already, as {survey.instance} {where}"
    what = "is revoked" if known.revoked else "is not known here any more"
    return f"cannot use its identity: the instance {survey.instance} {what}"


def _no_package(look: Look, survey: Survey, package: Package | None, wish: Wish) -> Refuse | None:
    if package is not None or (survey.version and not wish.packages):
        return None
    needed = f"a {look.format or 'package'} for {look.machine or 'its unknown machine'}"
    given = ", ".join(map(str, wish.packages)) or "none"
    there = look.distribution or "an unknown distribution"
    return Refuse(
        f"cannot install on {there}: it needs {needed}; given: {given}", "build it and name it with --package FILE"
    )


def _full(look: Look, package: Package) -> Refuse | None:
    for where, free, least in (("/opt", look.free_opt, LEAST_OPT), ("/tmp", look.free_tmp, 2 * package.size)):
        if free < least:
            return Refuse(
                f"cannot install: {where} has {free // MEGABYTE} MB free, the least is {least // MEGABYTE} MB",
                "make room there",
            )
    return None


def is_heard(known: Known, survey: Survey) -> bool:
    """Whether the coordinator hears the version that is installed, and not the one that is about to end."""
    heard, installed = upstream(known.version), upstream(survey.version)
    return known.connected and not (heard and installed and newer(installed, heard))
