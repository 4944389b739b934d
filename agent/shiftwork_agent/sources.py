"""Settings of the places outside that bundles come from, and of the way there."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

import msgspec


class S3Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`credentials`: whose. The coordinator's mean that it shows a presigned address; with the host's own the agent
    signs by itself, and the rest applies. `path_style` None: where there is an endpoint."""

    credentials: Literal["coordinator", "own"] = "coordinator"
    region: str = ""
    endpoint: str = ""
    path_style: bool | None = None
    profile: str = ""


class GitHubSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without `token_file` the coordinator shows the way."""

    token_file: str = ""
    api: str = "https://api.github.com"


def proxy_environment(proxy: str, no_proxy: tuple[str, ...]) -> dict[str, str]:
    """What makes every connection of this process take the proxy. Lower case: it wins over the service's own."""
    found = {"https_proxy": proxy} if proxy else {}
    return found | ({"no_proxy": ",".join(no_proxy)} if no_proxy else {})


def is_safe(url: str, *, loopback: bool) -> bool:
    """An address with https; or with `loopback` http that never leaves this host."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    return loopback and parts.scheme == "http" and _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def problems(s3: S3Settings, github: GitHubSettings, proxy: str) -> list[tuple[bool, str]]:
    """Each with whether it is one."""
    return [
        (
            bool(s3.endpoint) and not is_safe(s3.endpoint, loopback=True),
            f"s3.endpoint is {s3.endpoint!r}; write https://host",
        ),
        (not is_safe(github.api, loopback=True), f"github.api is {github.api!r}; write https://host/api/v3"),
        (
            bool(proxy) and (urlsplit(proxy).scheme not in ("http", "https") or not urlsplit(proxy).hostname),
            "proxy is no address of a proxy; write http://host:port",
        ),
    ]
