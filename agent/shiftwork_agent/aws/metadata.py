"""The instance metadata service, by IMDSv2 alone and never through a proxy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from shiftwork_contract.errors import Unavailable

METADATA = "http://169.254.169.254"
LIMIT = 3.0
IDENTITY_LIMIT = 1.0
"""Seconds that a link waits for what EC2 calls this host; the service answers within milliseconds, or not at all."""
TOKEN_TTL = 300
IDENTITY = ("instance-id", "placement/region", "placement/availability-zone")
_ID = re.compile(r"i-[0-9a-f]{8,17}")
_PLACE = re.compile(r"[a-z0-9-]{1,64}")


async def read(environ: Mapping[str, str], *paths: str, limit: float = LIMIT) -> list[str | None]:
    """What lies under these paths of meta-data; None for what is not there. Raises Unavailable without an answer."""
    import aiohttp

    base = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA).rstrip("/")
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL)}
    try:
        async with asyncio.timeout(limit), aiohttp.ClientSession() as session:
            async with session.put(f"{base}/latest/api/token", headers=ttl, raise_for_status=True) as answer:
                token = {"X-aws-ec2-metadata-token": await answer.text()}
            found: list[str | None] = []
            for path in paths:
                async with session.get(f"{base}/latest/meta-data/{path}", headers=token) as answer:
                    found.append(await answer.text() if answer.status == 200 else None)
            return found
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError) as err:
        raise Unavailable(f"cannot ask the instance metadata service: {err}") from err


def disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"


async def identity(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Instance id, region and zone, each empty where it is not told. Raises Unavailable without an answer."""
    id, region, zone = await read(environ, *IDENTITY, limit=IDENTITY_LIMIT)
    if not _ID.fullmatch(id or ""):
        return "", "", ""
    return id or "", _place(region), _place(zone)


def _place(text: str | None) -> str:
    return text if text and _PLACE.fullmatch(text) else ""


def expected(environ: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Whether to ask at all: elsewhere than in EC2 nothing may answer, or something else. The firmware tells, and a
    metadata service that the environment names is meant to be asked."""
    if disabled(environ):
        return False
    return bool(environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")) or _firmware_of_ec2(root)


def _firmware_of_ec2(root: Path) -> bool:
    """Nitro and metal name Amazon as the maker; Xen has an id that begins with ec2."""
    vendor, hypervisor = (_line(root / "sys" / path) for path in ("class/dmi/id/sys_vendor", "hypervisor/uuid"))
    return vendor == "Amazon EC2" or hypervisor.lower().startswith("ec2")


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
