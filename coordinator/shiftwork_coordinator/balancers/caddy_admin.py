"""Caddy's admin endpoint, read only: nothing here ever changes its configuration."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
import msgspec

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.balancers import caddy_config
from shiftwork_coordinator.balancers.caddy_config import Proxy

_LOADED = re.compile(rb"^caddy_config_last_reload_success_timestamp_seconds (\S+)$", re.M)
_VERSION = re.compile(rb'^go_build_info\{[^}]*version="v?(\d+)\.(\d+)\.(\d+)', re.M)


class _Upstream(msgspec.Struct):
    address: str
    num_requests: int


class View(msgspec.Struct, frozen=True):
    """What Caddy does now. `loaded_for`: seconds since the configuration was loaded, by Caddy's own clock; None when
    it does not tell. `version` likewise."""

    proxies: Sequence[Proxy]
    in_flight: Mapping[str, int]
    generation: str
    loaded_for: float | None
    version: tuple[int, int, int] | None


class Admin:
    """One admin endpoint: `http://127.0.0.1:2019` or `unix:///path`."""

    def __init__(self, address: str, timeout: float) -> None:
        self.address = address
        self._base, self._socket = _target(address)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def view(self) -> View:
        """Raises Unavailable when Caddy cannot be asked or answers something else than asked for."""
        (config, headers), (upstreams, _), (metrics, dated) = await asyncio.gather(
            self._get("/config/"), self._get("/reverse_proxy/upstreams"), self._get("/metrics", optional=True)
        )
        try:
            listed = msgspec.json.decode(upstreams, type=list[_Upstream] | None) or []
            proxies = caddy_config.proxies(msgspec.json.decode(config))
        except (msgspec.MsgspecError, ValueError, TypeError, AttributeError) as err:
            raise Unavailable(f"cannot read what Caddy at {self.address} answered: {err}") from err
        loaded = _LOADED.search(metrics)
        version = _VERSION.search(metrics)
        return View(
            proxies=proxies,
            in_flight={one.address: one.num_requests for one in listed},
            generation=headers.get("Etag", "") + (f"@{loaded[1].decode()}" if loaded else ""),
            loaded_for=_age(dated.get("Date", ""), loaded[1]) if loaded else None,
            version=(int(version[1]), int(version[2]), int(version[3])) if version else None,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, path: str, *, optional: bool = False) -> tuple[bytes, Mapping[str, str]]:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._socket) if self._socket else aiohttp.TCPConnector()
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        try:
            async with self._session.get(self._base + path) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            why = str(err) or f"no answer within {self._timeout.total:g} s"
            raise Unavailable(
                f"cannot reach Caddy's admin endpoint at {self.address}: {why}; check that Caddy runs and `admin` is on"
            ) from err
        if answer.status == 200:
            return body, answer.headers
        if optional:
            return b"", {}
        raise Unavailable(
            f"cannot read {path} of Caddy's admin endpoint at {self.address}: it answered {answer.status} "
            f"{body[:200].decode('utf-8', 'replace').strip()}"
        )


def _target(address: str) -> tuple[str, str]:
    """Base URL, and the socket's path where it is one. Plain HTTP is refused beyond this host."""
    why = "write http://127.0.0.1:2019 or unix:///path"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as err:
        raise _refused(address, f"{err}; {why}") from err
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return "http://localhost", parts.path
    if parts.scheme != "http" or not host or parts.path.strip("/"):
        raise _refused(address, why)
    if not _loopback(host):
        raise _refused(address, "it has no authentication and is used on loopback only; use a unix socket or a tunnel")
    return address.rstrip("/"), ""


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(address: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot use Caddy admin endpoint {address!r}: {why}", code="INVALID_LOAD_BALANCER")


def _age(date: str, loaded: bytes) -> float | None:
    """The answer's own Date is cut to whole seconds, so the age comes out too low, never too high."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - float(loaded))
    except ValueError:
        return None
