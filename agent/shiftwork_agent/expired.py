"""Renewing a certificate that has expired, with the key that it was for. Run as a child of the daemon.

TLS lets an expired certificate open nothing: it is shown in a body, with a signature over the coordinator's nonce.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import msgspec

from shiftwork_agent import identity, keys
from shiftwork_agent.https import Answer, ask, nonce
from shiftwork_agent.layout import Layout
from shiftwork_contract.errors import Denied, ShiftworkError, Unavailable
from shiftwork_contract.messages import Certificate


async def renew(layout: Layout, coordinators: list[str]) -> None:
    """Asks them in turn, and keeps what the first that can be reached has issued.

    Raises Denied when it refuses, Unavailable when none can be reached.
    """
    problem = Unavailable("cannot renew the certificate: no coordinator is known")
    for url in coordinators:
        try:
            keys.install(layout, await _renewed(layout, url.rstrip("/")))
        except Unavailable as err:
            problem = err
        else:
            return
    raise problem


async def _renewed(layout: Layout, url: str) -> Certificate:
    context = ssl.create_default_context(cafile=str(layout.ca))
    given = await nonce(url, context)
    key = layout.key.read_bytes()
    csr = keys.request(key, identity.load(layout).name)
    proof = {"nonce": given, "csr": csr, "signature": keys.renewal_proof(key, given, csr)}
    body = {"certificate": layout.certificate.read_text(), **proof}
    answer = await ask(f"{url}/v1/join/renewals", context, body)
    return _read(url, answer)


def _read(url: str, answer: Answer) -> Certificate:
    if answer.status == 200:
        try:
            return msgspec.convert(msgspec.json.decode(answer.text), Certificate)
        except msgspec.MsgspecError as err:
            raise Unavailable(f"cannot renew the certificate: the answer of {url} cannot be read: {err}") from err
    if answer.status in (400, 401, 403, 404, 409):
        raise Denied(f"cannot renew the certificate: {url} answers {answer.problem}")
    raise Unavailable(f"cannot renew the certificate: HTTP {answer.status} of {url}: {answer.problem}")


def main(arguments: list[str]) -> int:
    _, state, *coordinators = arguments
    try:
        asyncio.run(renew(Layout(Path(state)), coordinators))
    except ShiftworkError as err:
        sys.stderr.write(err.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
