"""This host's AWS credentials, looked for where AWS's own tools look: environment, shared file, instance profile."""

from __future__ import annotations

import asyncio
import configparser
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from shiftwork_agent.aws import metadata
from shiftwork_agent.aws.sigv4 import Keys
from shiftwork_contract.errors import InvalidRequest, Unavailable


class _Role(msgspec.Struct, frozen=True, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str = ""
    expiration: datetime | None = None


async def find(environ: Mapping[str, str]) -> Keys:
    """The first there are. Raises InvalidRequest when there are none, Unavailable when the instance's profile cannot
    be read now."""
    found = _of_environment(environ) or await asyncio.to_thread(_of_file, environ)
    if found is None and not metadata.disabled(environ):
        found = await _of_instance(environ)
    if found is None:
        raise InvalidRequest(
            "cannot find AWS credentials: there are none in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, none in the"
            f" profile {_profile(environ)!r} of {_file(environ)}, and no role that an instance profile gives this host"
        )
    return found


async def region(environ: Mapping[str, str]) -> str:
    """Of the environment, else where this instance runs; empty where that is not known."""
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    if named or metadata.disabled(environ):
        return named
    try:
        return (await metadata.read(environ, "placement/region"))[0] or ""
    except Unavailable:
        return ""


def _of_environment(environ: Mapping[str, str]) -> Keys | None:
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    return Keys(access, secret, environ.get("AWS_SESSION_TOKEN", "")) if access and secret else None


def _of_file(environ: Mapping[str, str]) -> Keys | None:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_file(environ).read_text())
        section = parser[_profile(environ)]
        return Keys(
            section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token", "")
        )
    except (OSError, KeyError):
        return None
    except (configparser.Error, ValueError) as err:  # its text may quote the line, and so a secret
        raise InvalidRequest(f"cannot read {_file(environ)}: {type(err).__name__}; mend it or move it away") from None


def _file(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME") or "/root"
    return Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials")


def _profile(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_PROFILE") or "default"


async def _of_instance(environ: Mapping[str, str]) -> Keys | None:
    """None where there is no instance profile, or no metadata service at all."""
    base = "iam/security-credentials/"
    try:
        (name,) = await metadata.read(environ, base)
        (text,) = await metadata.read(environ, base + name.split("\n")[0]) if name else ("",)
    except Unavailable:
        return None
    if not text:
        return None
    try:
        role = msgspec.json.decode(text, type=_Role)
    except msgspec.MsgspecError:
        raise Unavailable("cannot read the credentials of this instance's profile: try again") from None
    expires = role.expiration.timestamp() if role.expiration else float("inf")
    return Keys(role.access_key_id, role.secret_access_key, role.token, expires)
