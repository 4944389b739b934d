"""Joining: from a one-time token to an identity.

The token carries the fingerprint of the coordinator's CA, so the first contact is as safe as the way the token came
here: `swj_<id>_<secret>_<first 32 hex digits of the SHA-256 of the CA certificate in DER>`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shiftwork_agent import identity, status
from shiftwork_agent.config import Config, checked, dump
from shiftwork_agent.identity import Identity
from shiftwork_agent.layout import Layout, sync_directory, write_atomically
from shiftwork_contract.errors import Conflict, Denied, InvalidRequest, Unavailable

TOKEN = re.compile(r"swj_[A-Za-z0-9-]+_[A-Za-z0-9-]+_(?P<ca>[0-9a-f]{32})")
LIMIT = 20.0


@dataclass(frozen=True)
class Wish:
    """What the operator typed. `fingerprint` replaces the token's: `sha256:` and at least 32 hex digits."""

    url: str
    token: str
    name: str = ""
    fingerprint: str = ""
    address: str = ""
    install_root: str = ""
    force: bool = False


class Joined(msgspec.Struct, frozen=True):
    """The coordinator's answer."""

    instance: str
    certificate: str
    ca: str
    coordinators: tuple[str, ...] = ()


async def join(wish: Wish, layout: Layout, config_file: Path) -> Identity:
    """Makes a key, gets a certificate for it, writes both and agent.yml. What is installed here stays.

    Commands, reports and the epoch of a coordinator before are forgotten: another one counts anew.
    Raises InvalidRequest, Denied or Conflict for what the operator must change, Unavailable for what may pass.
    """
    url, fingerprint = _checked_url(wish.url), _fingerprint(wish)
    name = wish.name or socket.gethostname()
    given = Config((url,), name=name, install_root=wish.install_root, address=wish.address)
    checked(given, config_file)
    if layout.about.exists() and not wish.force:
        known = identity.load(layout)
        raise Conflict(
            f"cannot join: {layout.state} already belongs to instance {known.instance} ({known.name});"
            " run with --force to replace it, or give another --state"
        )
    _check_writable(layout.state, config_file.parent)
    with _no_agent_on(layout):
        return await _join(wish, layout, config_file, given, fingerprint)


async def _join(wish: Wish, layout: Layout, config_file: Path, given: Config, fingerprint: str) -> Identity:
    from shiftwork_agent import keys

    url, name = given.coordinators[0], given.name
    key = keys.new_key()
    body = {"token": wish.token, "name": name, "csr": keys.request(key, name), "address": wish.address}
    ca = await _trusted_ca(url, fingerprint)
    joined = await _post(url, ca, body)
    about = keys.described(joined.certificate.encode(), key, instance=joined.instance, name=name)
    _forget(layout)
    identity.save(layout, about, certificate=joined.certificate.encode(), ca=joined.ca.encode(), key=key)
    config = msgspec.structs.replace(given, coordinators=joined.coordinators or (url,))
    config_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(config_file, dump(config))
    return about


def _check_writable(*directories: Path) -> None:
    """Before the token is spent: a join that cannot be kept would leave an instance that never comes."""
    for directory in directories:
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise InvalidRequest(
                f"cannot join: {there} is not a directory that this user may write; run it as root, or give"
                " --state and --config that are"
            )


@contextlib.contextmanager
def _no_agent_on(layout: Layout) -> Iterator[None]:
    """Holds the state directory; one that has no memory yet has nothing to hold."""
    if not layout.ledger.exists():
        yield
        return
    try:
        held = status.lock(layout)
    except Conflict as err:
        raise Conflict(f"cannot join: an agent runs on {layout.state}; stop it, then join again") from err
    with os.fdopen(held):
        yield


def _forget(layout: Layout) -> None:
    """The identity goes first: a crash midway must not leave the old one without its memory."""
    if layout.ledger.exists():
        layout.about.unlink(missing_ok=True)
        sync_directory(layout.identity)
        layout.ledger.unlink()
        sync_directory(layout.state)
        shutil.rmtree(layout.commands, ignore_errors=True)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise InvalidRequest(f"cannot join {url!r}: write the coordinator's address as https://host:port")
    return url.rstrip("/")


def _fingerprint(wish: Wish) -> str:
    match = TOKEN.fullmatch(wish.token)
    if not match:
        raise InvalidRequest(
            "cannot use this token: a join token is swj_, three parts joined by _, the last of 32 hex digits;"
            " make one with `shiftwork token create --agent`"
        )
    if not wish.fingerprint:
        return match["ca"]
    given = wish.fingerprint.removeprefix("sha256:").replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{32,64}", given):
        raise InvalidRequest(f"cannot use CA fingerprint {wish.fingerprint!r}: write sha256: and 32 to 64 hex digits")
    return given


async def _trusted_ca(url: str, fingerprint: str) -> str:
    """The CA as the coordinator shows it, if it is the one that the fingerprint names."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    status, text = await _request(f"{url}/v1/ca.pem", unverified, None)
    try:
        der = ssl.PEM_cert_to_DER_cert(text) if status == 200 else b""
    except ValueError:
        der = b""
    if not der:
        raise Unavailable(f"cannot join {url}: it shows no CA certificate (HTTP {status}); is it a coordinator?")
    shown = hashlib.sha256(der).hexdigest()
    if not shown.startswith(fingerprint):
        raise Denied(
            f"cannot join {url}: its CA has the fingerprint sha256:{shown}, the token is for one that begins with"
            f" {fingerprint}; somebody answers in its place, or the token is from another coordinator"
        )
    return text


async def _post(url: str, ca: str, body: dict[str, str]) -> Joined:
    context = ssl.create_default_context(cadata=ca)
    status, text = await _request(f"{url}/v1/join", context, body)
    if status in (200, 201):
        try:
            return msgspec.json.decode(text, type=Joined)
        except msgspec.MsgspecError as err:
            raise Unavailable(f"cannot join {url}: its answer cannot be read: {err}") from err
    problem = _problem(text)
    if status in (401, 403):
        raise Denied(
            f"cannot join {url}: the token is refused: {problem}; make a new one with `shiftwork token create`"
        )
    if status in (400, 409, 422):
        raise InvalidRequest(f"cannot join {url}: {problem}")
    raise Unavailable(f"cannot join {url}: HTTP {status}: {problem}; try again")


def _problem(text: str) -> str:
    """The message in an error answer, whatever wraps it."""
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip()[:300] or "no reason given"
    if isinstance(found, dict):
        found = found.get("message") or found.get("error") or found
    if isinstance(found, dict):
        found = found.get("message") or found
    return str(found)[:300]


async def _request(url: str, context: ssl.SSLContext, body: dict[str, str] | None) -> tuple[int, str]:
    import aiohttp

    try:
        async with (
            asyncio.timeout(LIMIT),
            aiohttp.ClientSession(trust_env=True) as session,
            session.request("POST" if body else "GET", url, json=body, ssl=context, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.text()
    except TimeoutError as err:
        raise Unavailable(f"cannot reach {url}: no answer within {LIMIT:g} s") from err
    except (aiohttp.ClientError, OSError) as err:
        raise Unavailable(f"cannot reach {url}: {err}") from err
