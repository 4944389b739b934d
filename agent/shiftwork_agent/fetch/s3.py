"""Objects in S3 with the host's own credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from shiftwork_agent.aws.sigv4 import signed
from shiftwork_agent.fetch.credentials import Chain
from shiftwork_agent.fetch.target import Target, Tls
from shiftwork_agent.sources import S3Settings
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.place import S3Object, place_of
from shiftwork_contract.revision import Revision


@dataclass(frozen=True)
class OwnS3:
    """Signs each request anew: a signature holds for minutes."""

    settings: S3Settings
    chain: Chain
    environment: Mapping[str, str]
    now: Callable[[], float]
    tls: Tls = True

    async def target(self, revision: Revision, fresh: bool) -> Target:
        place = place_of(revision)
        assert isinstance(place, S3Object)
        region = self._region()
        url = address(self.settings, region, place)
        keys = await self.chain.current(fresh=fresh)
        headers = signed("GET", url, {}, b"", keys, region=region, service="s3", at=self.now())
        if revision.etag:
            headers["If-Match"] = f'"{revision.etag}"'
        return Target(url, revision.url, self.tls, headers, revision.etag, loopback=True, onward=self.tls)

    def _region(self) -> str:
        named = (self.environment.get(name, "") for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
        found = self.settings.region or next(filter(None, named), "")
        if not found:
            raise InvalidRequest("cannot read from S3: no region is set; set s3.region in agent.yml, or AWS_REGION")
        return found


def address(settings: S3Settings, region: str, place: S3Object) -> str:
    """Bucket names with dots stand in the path: no certificate covers them in the host name."""
    suffix = ".cn" if region.startswith("cn-") else ""
    parts = urlsplit(settings.endpoint or f"https://s3.{region}.amazonaws.com{suffix}")
    in_path = bool(settings.endpoint) if settings.path_style is None else settings.path_style
    key, query = quote(place.key), f"?versionId={quote(place.version, safe='')}" if place.version else ""
    base = parts.path.rstrip("/")
    if in_path or "." in place.bucket:
        return f"{parts.scheme}://{parts.netloc}{base}/{place.bucket}/{key}{query}"
    return f"{parts.scheme}://{place.bucket}.{parts.netloc}{base}/{key}{query}"
