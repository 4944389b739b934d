"""A host's own AWS credentials: environment, shared credentials file, instance profile, in this order.

The instance profile is asked by IMDSv2 alone: without its token nothing is asked at all.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import aiohttp
import msgspec

from shiftwork_agent.aws.sigv4 import Keys
from shiftwork_contract.errors import InvalidRequest, Unavailable

IMDS = "http://169.254.169.254"
TOKEN_FOR = 21600
LIMIT = 2.0
EARLY = 300.0
"""Seconds before they expire at which credentials are fetched anew."""
_ROLE = "/latest/meta-data/iam/security-credentials/"


class _OfRole(msgspec.Struct, frozen=True, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: datetime


@dataclass
class Chain:
    """Remembers what it found until shortly before it expires. `now` is Unix time."""

    environment: Mapping[str, str]
    now: Callable[[], float]
    profile: str = ""
    _found: Keys | None = field(default=None, init=False, repr=False)

    async def current(self, *, fresh: bool = False) -> Keys:
        """Raises InvalidRequest where there are none, saying where they were looked for; Unavailable for what may pass.

        `fresh`: what was good before was refused. Credentials that still hold are kept while no new ones come.
        """
        found, now = self._found, self.now()
        if found and now < found.expires - EARLY and not (fresh and found.session_token):
            return found
        try:
            self._found = self._at_hand() or await self._of_instance()
        except Unavailable:
            if found is None or now >= found.expires:
                raise
        assert self._found is not None
        return self._found

    def _at_hand(self) -> Keys | None:
        key, secret = (self.environment.get(f"AWS_{name}", "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        if key and secret and not self.profile:
            return Keys(key, secret, self.environment.get("AWS_SESSION_TOKEN", ""))
        return self._of_file()

    def _of_file(self) -> Keys | None:
        wanted = self.profile or self.environment.get("AWS_PROFILE", "")
        home = self.environment.get("HOME", "/root")
        path = Path(self.environment.get("AWS_SHARED_CREDENTIALS_FILE") or Path(home) / ".aws" / "credentials")
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text() if path.exists() else "")
            section = parser[wanted or "default"]
            return Keys(
                section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token", "")
            )
        except (OSError, UnicodeDecodeError, configparser.Error) as err:
            raise InvalidRequest(f"cannot read AWS credentials from {path}: {type(err).__name__}") from err
        except KeyError as err:
            if wanted:
                raise InvalidRequest(f"cannot find AWS credentials of profile {wanted!r} in {path}; add them") from err
            return None

    async def _of_instance(self) -> Keys:
        if self.environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise _none("the instance metadata service is switched off (AWS_EC2_METADATA_DISABLED)")
        base = self.environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", IMDS).rstrip("/")
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(total=LIMIT)) as session:
            try:
                return await _asked(session)
            except (aiohttp.ClientError, TimeoutError) as err:
                raise Unavailable(
                    "cannot get AWS credentials: the instance metadata service does not answer; in a container its"
                    " http-put-response-hop-limit must be 2, elsewhere give s3.profile or AWS_ACCESS_KEY_ID"
                ) from err


async def _asked(session: aiohttp.ClientSession) -> Keys:
    token = await _text(session, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_FOR)})
    headers = {"X-aws-ec2-metadata-token": token}
    role = (await _text(session, "GET", _ROLE, headers)).partition("\n")[0].strip()
    answer = await _text(session, "GET", _ROLE + role, headers)
    try:
        found = msgspec.json.decode(answer, type=_OfRole)
    except msgspec.MsgspecError as err:
        raise Unavailable(f"cannot get AWS credentials of the role {role!r}: it has none now; try again") from err
    return Keys(found.access_key_id, found.secret_access_key, found.token, found.expiration.timestamp())


async def _text(session: aiohttp.ClientSession, method: str, path: str, headers: Mapping[str, str]) -> str:
    async with session.request(method, path, headers=headers, allow_redirects=False) as answer:
        if answer.status == 404 and path == _ROLE:
            raise _none("this instance has no instance profile")
        if answer.status == 403:
            raise _none("the instance metadata service is switched off (403)")
        if answer.status != 200:
            raise Unavailable(f"cannot get AWS credentials: the metadata service answered {answer.status} to {path}")
        return await answer.text()


def _none(problem: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot find AWS credentials: none in the environment or the credentials file, and {problem}; attach a role,"
        " name s3.profile, or leave s3.credentials to the coordinator",
        code="NoCredentials",
    )
