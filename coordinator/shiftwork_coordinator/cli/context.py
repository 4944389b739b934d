"""Where the coordinator is, and what to show it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shiftwork_contract.errors import InvalidRequest

SYSTEM_DATA = Path("/var/lib/shiftwork")
SOCKET = "shiftwork.sock"
WHERE_CA = "a copy of ca/ca.pem in the coordinator's data directory"


@dataclass(frozen=True)
class Where:
    """Either a URL, with a token and perhaps a CA, or a unix socket. `source` says who named it, for messages."""

    url: str = ""
    token: str = field(default="", repr=False)
    ca: Path | None = None
    socket: Path | None = None
    source: str = ""

    def __str__(self) -> str:
        return self.url or f"the socket {self.socket}"


def default_data(environment: Mapping[str, str], uid: int) -> Path:
    """The data directory of a coordinator that was told none: the system's for root, else the user's own."""
    if environment.get("SHIFTWORK_DATA"):
        return Path(environment["SHIFTWORK_DATA"])
    if uid == 0:
        return SYSTEM_DATA
    home = environment.get("XDG_DATA_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".local" / "share"
    return Path(home) / "shiftwork"


def find(data: Path | None, environment: Mapping[str, str], uid: int | None = None) -> Where:
    """In this order: `--data`, SHIFTWORK_URL, SHIFTWORK_DATA, the context file, the default data directory.

    Raises InvalidRequest for an address or file that cannot be used; nothing is connected to.
    """
    if data is not None:
        return _local(data, "--data")
    if environment.get("SHIFTWORK_URL"):
        named = {key: environment.get(f"SHIFTWORK_{key.upper()}", "") for key in ("url", "token", "ca")}
        return _remote(named, "SHIFTWORK_URL")
    if environment.get("SHIFTWORK_DATA"):
        return _local(Path(environment["SHIFTWORK_DATA"]), "SHIFTWORK_DATA")
    file = context_file(environment)
    if file.exists():
        return _remote(_read(file), str(file))
    return _local(default_data(environment, os.getuid() if uid is None else uid), "the default data directory")


def context_file(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".config"
    return Path(home) / "shiftwork" / "context.yml"


def _local(data: Path, source: str) -> Where:
    return Where(socket=_socket_of(data), source=source)


def _socket_of(data: Path) -> Path:
    """As the running coordinator wrote it down, else where it always is."""
    try:
        told = json.loads((data / "serve.json").read_bytes())
    except (OSError, ValueError):
        return data / SOCKET
    named = told.get("socket") if isinstance(told, dict) else None
    return data / named if isinstance(named, str) and named else data / SOCKET


def _remote(named: Mapping[str, str], source: str) -> Where:
    url = named["url"].rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidRequest(f"cannot use the coordinator's address {url!r} from {source}: write https://HOST:7070")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise InvalidRequest(
            f"cannot send a token to {url} (from {source}) in clear text: write https://; SHIFTWORK_CA names the CA"
        )
    ca = Path(named["ca"]).expanduser() if named.get("ca") else None
    if ca is not None and not ca.is_file():
        named_by = "SHIFTWORK_CA" if source == "SHIFTWORK_URL" else source
        raise InvalidRequest(f"cannot use the CA file {ca} from {named_by}: there is no such file; it is {WHERE_CA}")
    return Where(url=url, token=named.get("token", ""), ca=ca, source=source)


def _read(file: Path) -> dict[str, str]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise InvalidRequest(f"cannot read the context file {file}: {err}") from err
    if not isinstance(content, dict) or not content.get("url"):
        raise InvalidRequest(f"cannot use the context file {file}: it needs `url:` (and `token:`, `ca:`)")
    unknown = sorted(map(str, content.keys() - {"url", "token", "ca"}))
    if unknown:
        raise InvalidRequest(f"cannot use {', '.join(unknown)} in the context file {file}: it takes url, token and ca")
    return {key: str(value) for key, value in content.items()}
