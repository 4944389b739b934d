"""What is signed of a revision: one line of JSON that says which tree may run as which application, and until when.

    {"format":1,"application":"web","revision":"sha256:…","sequence":1764320400000,
     "signedAt":"2025-11-28T09:00:00Z","expires":"2026-02-26T09:00:00Z"}

without spaces or line breaks but the one at its end. The same statement has one text only, so nothing can be hidden in
a second spelling. `revision` is the tree digest also where the revision is named by its archive's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import DIGEST, Signed
from shiftwork_contract.sshsig import fingerprint, parse

NAMESPACE = "shiftwork"
FORMAT = 1
MAX_TEXT = 4 << 10
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Sequence = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`sequence` rises with each statement for an application; hosts do not go back below what they accepted."""

    format: int
    application: str
    revision: str
    sequence: _Sequence
    signed_at: _Time
    expires: _Time


class Facts(msgspec.Struct, frozen=True, rename="camel"):
    """What a signature says about itself, for people; only a host that knows the key can say whether it is true."""

    signer: str
    sequence: int
    signed_at: float
    expires: float


def made(application: str, revision: str, *, sequence: int, signed_at: float, expires: float) -> Statement:
    """Times are Unix seconds. Raises InvalidRequest for a statement that no host would take."""
    if expires <= signed_at:
        raise InvalidRequest("cannot sign a statement that expires before it begins; give a longer --expires")
    begin, end = (datetime.fromtimestamp(int(at), UTC) for at in (signed_at, expires))
    return read(text(Statement(FORMAT, application, revision, sequence, begin, end)))


def text(statement: Statement) -> str:
    return msgspec.json.encode(statement).decode() + "\n"


def read(given: str) -> Statement:
    """Raises InvalidRequest for anything but the one text of a statement of this format."""
    try:
        if len(given) > MAX_TEXT:
            raise _unreadable(f"it has {len(given)} characters, at most {MAX_TEXT} are read")
        statement = msgspec.json.decode(given, type=Statement)
    except (msgspec.MsgspecError, UnicodeError) as err:
        raise _unreadable(str(err)) from err
    if statement.format != FORMAT:
        raise _unreadable(f"its format is {statement.format}, this version knows {FORMAT}")
    if not DIGEST.fullmatch(statement.revision):
        raise _unreadable(f"its revision {statement.revision[:80]!r} is not sha256: and 64 hex digits")
    if text(statement) != given:
        raise _unreadable("it is spelled in another way than `shiftwork sign --statement-only` prints it")
    return statement


def fitting(signed: Signed, application: str, tree: str) -> Statement:
    """The statement, if it is about this tree (empty: not known yet) and application, and its signature is one for us.

    Needs no key, so it proves nothing about who signed. Raises InvalidRequest.
    """
    statement, signature = read(signed.statement), parse(signed.signature)
    problem = ""
    if signature.namespace != NAMESPACE:
        problem = f"it was made for the namespace {signature.namespace[:40]!r}, not {NAMESPACE!r}"
    elif statement.application != application:
        problem = f"it is for the application {statement.application[:80]!r}"
    elif tree and statement.revision != tree:
        problem = f"it is for the tree {statement.revision}"
    if problem:
        raise InvalidRequest(
            f"cannot use the signature by {fingerprint(signature.key)} for revision {tree or statement.revision} of"
            f" application {application!r}: {problem}; sign this revision with `shiftwork sign --application"
            f" {application}`",
            code="InvalidSignature",
        )
    return statement


def facts(signed: Signed) -> Facts:
    """Raises InvalidRequest where statement or signature cannot be read."""
    statement, signer = read(signed.statement), fingerprint(parse(signed.signature).key)
    return Facts(signer, statement.sequence, statement.signed_at.timestamp(), statement.expires.timestamp())


def line(found: Facts) -> str:
    """For people."""
    until = datetime.fromtimestamp(found.expires, UTC)
    return f"signed by {found.signer}, sequence {found.sequence}, expires {until:%Y-%m-%d %H:%M} UTC"


def _unreadable(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot read the signed statement: {why}; make it with `shiftwork sign`", code="InvalidSignature"
    )
