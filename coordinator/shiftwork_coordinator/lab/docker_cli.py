"""The docker command, as far as the lab needs it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from shiftwork_contract.errors import Unavailable


def docker(*args: str, within: float = 60.0) -> str:
    """Its standard output. Raises Unavailable with what docker said."""
    try:
        done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=within, check=False)
    except FileNotFoundError as err:
        raise Unavailable(
            "cannot run docker: there is no such command; install Docker or use --runtime process"
        ) from err
    except subprocess.TimeoutExpired as err:
        raise Unavailable(f"cannot run docker {args[0]}: no answer within {within:g} s; is the engine well?") from err
    if done.returncode != 0:
        raise Unavailable(f"cannot run docker {' '.join(args[:3])} …: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def attempt(*args: str, within: float = 60.0) -> str | None:
    """Like `docker`, but None where it fails: for asking whether, and for removing what may be gone."""
    try:
        return docker(*args, within=within)
    except Unavailable:
        return None


def label(lab: str) -> str:
    """What containers, networks and volumes of a lab carry."""
    return f"shiftwork.lab={lab}"


def remove_all(label: str) -> None:
    """Removes containers, networks and volumes that carry `label`; those already gone are fine."""
    wanted = ["--filter", f"label={label}", "-q"]
    _remove(("rm", "-f", "-v"), attempt("ps", "-a", *wanted))
    _remove(("network", "rm"), attempt("network", "ls", *wanted))
    _remove(("volume", "rm", "-f"), attempt("volume", "ls", *wanted))


def _remove(verb: Sequence[str], listed: str | None) -> None:
    if listed:
        attempt(*verb, *listed.split(), within=120.0)
