"""Joining: from a one-time token, an operator's approval or a role of AWS to an identity.

The token carries the fingerprint of the coordinator's CA, so the first contact is as safe as the way the token came
here: `swj_<id>_<secret>_<first 32 hex digits of the SHA-256 of the CA certificate in DER>`. Without a token the
fingerprint is given beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shiftwork_agent import identity, status
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config, checked, dump, load_if_there
from shiftwork_agent.https import Answer, ask, trusted_ca
from shiftwork_agent.identity import Identity
from shiftwork_agent.layout import Layout, sync_directory, write_atomically
from shiftwork_contract.errors import Conflict, Denied, InvalidRequest, Unavailable

TOKEN = re.compile(r"swj_[A-Za-z0-9-]+_[A-Za-z0-9-]+_(?P<ca>[0-9a-f]{32})")
ASK_EVERY, TELL_EVERY = 5.0, 60.0
"""Seconds, while an operator is waited for."""


@dataclass(frozen=True)
class Wish:
    """What the operator typed. `fingerprint` replaces the token's: `sha256:` and at least 32 hex digits. Without a
    token, `wait` for an approval, or `iam`: by this host's role of AWS, which also names it. `coordinators`: where else
    to find the coordinator, or another on its data."""

    url: str
    token: str = ""
    name: str = ""
    fingerprint: str = ""
    address: str = ""
    install_root: str = ""
    coordinators: tuple[str, ...] = ()
    force: bool = False
    wait: bool = False
    iam: bool = False


class Joined(msgspec.Struct, frozen=True):
    """The coordinator's answer."""

    instance: str
    certificate: str
    ca: str
    coordinators: tuple[str, ...] = ()


def _silent(line: str) -> None: ...


async def join(wish: Wish, layout: Layout, config_file: Path, tell: Callable[[str], None] = _silent) -> Identity:
    """Makes a key, gets a certificate for it, writes both and agent.yml. What is installed here stays, and so do other
    settings that agent.yml has.

    Commands, reports and the epoch of a coordinator before are forgotten: another one counts anew. While it waits
    for an approval it says so to `tell`; interrupted and called again, it goes on with the same key.
    Raises InvalidRequest, Denied or Conflict for what the operator must change, Unavailable for what may pass.
    """
    url, fingerprint = _checked_url(wish.url), _fingerprint(wish)
    name = wish.name or socket.gethostname()
    given = msgspec.structs.replace(
        load_if_there(config_file),
        coordinators=(url, *map(_checked_url, wish.coordinators)),
        name=name,
        install_root=wish.install_root,
        address=wish.address,
    )
    checked(given, config_file)
    if layout.about.exists() and not wish.force:
        known = identity.load(layout)
        raise Conflict(
            f"cannot join: {layout.state} already belongs to instance {known.instance} ({known.name});"
            " run with --force to replace it, or give another --state"
        )
    _check_writable(layout.state, config_file.parent)
    with _no_agent_on(layout):
        return await _join(wish, layout, config_file, given, fingerprint, tell)


async def _join(
    wish: Wish, layout: Layout, config_file: Path, given: Config, fingerprint: str, tell: Callable[[str], None]
) -> Identity:
    from shiftwork_agent import iam, keys

    url, name = given.coordinators[0], given.name
    ca = await trusted_ca(url, fingerprint)
    key = _waiting_key(layout) if wish.wait else keys.new_key()
    body = {"name": name, "csr": keys.request(key, name), "address": wish.address}
    if wish.iam:
        shown = await iam.proof(url, ca, keys.fingerprint(key), os.environ, SystemClock().wall())
        joined = await _post(f"{url}/v1/join/iam", ca, {**body, "name": wish.name, **shown})
        name = joined.instance
    elif wish.wait:
        tell(f"This host asks to join {url} as {name}. Its key has the fingerprint")
        tell(f"  sha256:{keys.fingerprint(key)}")
        tell("Compare it with what `shiftwork approve` shows there. Waiting for approval ...")
        joined = await _approved(url, ca, body, layout, tell)
    else:
        joined = await _post(f"{url}/v1/join", ca, {"token": wish.token, **body})
    about = keys.described(joined.certificate.encode(), key, instance=joined.instance, name=name)
    _forget(layout)
    identity.save(layout, about, certificate=joined.certificate.encode(), ca=joined.ca.encode(), key=key)
    layout.waiting_key.unlink(missing_ok=True)
    addresses = dict.fromkeys((*(joined.coordinators or (url,)), *given.coordinators[1:]))
    config = msgspec.structs.replace(given, coordinators=tuple(addresses), name=name)
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
    if [bool(wish.token), wish.wait, wish.iam].count(True) != 1:
        raise InvalidRequest("cannot join: give one of --token T, --wait-for-approval and --iam")
    match = TOKEN.fullmatch(wish.token)
    if not match and wish.token:
        raise InvalidRequest(
            "cannot use this token: a join token is swj_, three parts joined by _, the last of 32 hex digits;"
            " make one with `shiftwork token create --agent`"
        )
    if match and not wish.fingerprint:
        return match["ca"]
    if not wish.fingerprint:
        raise InvalidRequest(
            "cannot join without a token and without --ca-fingerprint: nothing would show that the coordinator is"
            " yours; `shiftwork approve` prints it there"
        )
    given = wish.fingerprint.removeprefix("sha256:").replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{32,64}", given):
        raise InvalidRequest(f"cannot use CA fingerprint {wish.fingerprint!r}: write sha256: and 32 to 64 hex digits")
    return given


async def _post(url: str, ca: str, body: Mapping[str, object]) -> Joined:
    answer = await ask(url, ssl.create_default_context(cadata=ca), body)
    if answer.status in (200, 201):
        return _joined(url, answer)
    if answer.status in (401, 403):
        raise Denied(
            f"cannot join {url}: {answer.problem}; `shiftwork token create` makes a new token, `shiftwork trust list`"
            " shows which roles may join"
        )
    raise _refusal(url, answer)


def _joined(url: str, answer: Answer) -> Joined:
    try:
        return msgspec.json.decode(answer.text, type=Joined)
    except msgspec.MsgspecError as err:
        raise Unavailable(f"cannot join {url}: its answer cannot be read: {err}") from err


def _refusal(url: str, answer: Answer) -> InvalidRequest | Unavailable:
    if answer.status in (400, 409, 422):
        return InvalidRequest(f"cannot join {url}: {answer.problem}")
    return Unavailable(f"cannot join {url}: HTTP {answer.status}: {answer.problem}; try again")


def _waiting_key(layout: Layout) -> bytes:
    """The key that an earlier call asked with and got no decision on, else a new one."""
    from shiftwork_agent import keys

    layout.create()
    if not layout.waiting_key.exists():
        write_atomically(layout.waiting_key, keys.new_key())
    return layout.waiting_key.read_bytes()


async def _approved(url: str, ca: str, body: dict[str, str], layout: Layout, tell: Callable[[str], None]) -> Joined:
    """Asks until an operator has decided; a coordinator that is away meanwhile is waited for as well."""
    context, waited, told = ssl.create_default_context(cadata=ca), 0.0, 0.0
    while True:
        try:
            answer = await ask(f"{url}/v1/join/requests", context, body)
        except Unavailable as err:
            answer = Answer(503, err.message)
        if answer.status == 200:
            return _joined(url, answer)
        if answer.status in (401, 403):
            layout.waiting_key.unlink()
            raise Denied(f"cannot join {url}: {answer.problem}")
        if answer.status not in (202, 429, 503):
            raise _refusal(url, answer)
        if waited - told >= TELL_EVERY:
            tell(f"Still waiting, {waited // 60:.0f} min" + ("" if answer.status == 202 else f": {answer.problem}"))
            told = waited
        pause = max(ASK_EVERY, answer.retry_after)
        await asyncio.sleep(pause)
        waited += pause
