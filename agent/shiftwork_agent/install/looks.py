"""Owner, mode, access control list and SELinux context of something that was just made."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from shiftwork_agent.install.model import Look
from shiftwork_contract.appspec import Context
from shiftwork_contract.errors import ShiftworkError

LIMIT = 60.0
"""Seconds for one call of setfacl or chcon."""


def apply(descriptor: int, look: Look, mode: int) -> None:
    """On an open file or directory. The owner comes first: changing it takes setuid bits away."""
    if look.uid is not None or look.gid is not None:
        os.fchown(descriptor, _or_same(look.uid), _or_same(look.gid))
    os.fchmod(descriptor, mode if look.mode is None else look.mode)
    if look.acls:
        _run(descriptor, "setfacl", "acl", "-m", ",".join(look.acls))
    if look.context is not None:
        _run(descriptor, "chcon", "coreutils", *_context(look.context))


def apply_to_link(name: str, directory: int, look: Look) -> None:
    """A link has an owner and nothing else."""
    if look.uid is not None or look.gid is not None:
        os.chown(name, _or_same(look.uid), _or_same(look.gid), dir_fd=directory, follow_symlinks=False)


def copy_attributes(source: int, target: int) -> None:
    """Everything a file has besides its content: owner, mode, times, extended attributes and so its ACL."""
    found = os.fstat(source)
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, found.st_mode & 0o7777)
    for name in os.listxattr(source):
        with contextlib.suppress(OSError):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _context(context: Context) -> list[str]:
    given = (("--type", context.type), ("--user", context.user), ("--range", context.range))
    if not Path("/sys/fs/selinux").is_dir():
        raise ShiftworkError(
            f"cannot set the SELinux context {context.type}: SELinux is not enabled on this host;"
            " remove `context` from the AppSpec"
        )
    return [f"{option}={value}" for option, value in given if value]


def _run(descriptor: int, program: str, package: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise ShiftworkError(f"cannot run {program}: it is not on this host; install the package {package!r}")
    place = f"/proc/self/fd/{descriptor}"
    try:
        done = subprocess.run(
            [found, *arguments, place], pass_fds=[descriptor], capture_output=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise ShiftworkError(f"cannot run {program} {' '.join(arguments)}: it did not end within {LIMIT:g} s") from err
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise ShiftworkError(f"cannot run {program} {' '.join(arguments)}: {said}")


def _or_same(value: int | None) -> int:
    return -1 if value is None else value
