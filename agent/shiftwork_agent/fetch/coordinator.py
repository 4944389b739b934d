"""Bundles by way of the coordinator: out of its own store, or by an address outside that it gives us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

import aiohttp

from shiftwork_agent.fetch.answers import REDIRECTS, Cut, checked
from shiftwork_agent.fetch.target import Target, Tls
from shiftwork_agent.sources import is_safe
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import Revision


@dataclass
class Coordinator:
    """`url` gives its base and `tls` the context with the agent's certificate, both asked at each attempt."""

    url: Callable[[], str]
    tls: Callable[[], Tls]

    def target(self, revision: Revision) -> Target:
        """The coordinator itself."""
        path = f"/v1/agent/bundles/{quote(revision.identity, safe=':')}"
        return self.at(path, f"{revision.identity} from the coordinator")

    def at(self, path: str, name: str) -> Target:
        return Target(self.url().rstrip("/") + path, name, self.tls())


@dataclass
class Shown:
    """What the coordinator shows us. It is asked again only when the address before has failed."""

    session: aiohttp.ClientSession
    coordinator: Coordinator
    revision: Revision
    public: Tls
    _found: Target | None = field(default=None, init=False)

    async def __call__(self, fresh: bool) -> Target:
        if self._found is None or fresh:
            self._found = await self._ask()
        return self._found

    async def _ask(self) -> Target:
        """Our certificate ends here: where it sends us, nobody learns who we are."""
        asked = self.coordinator.target(self.revision)
        url = f"{asked.url}?{urlencode({'url': self.revision.url})}"
        async with self.session.get(url, ssl=asked.tls, allow_redirects=False) as response:
            if response.status not in REDIRECTS:
                await checked(response, Target(url, self.revision.url), proven=False)
                raise Cut("the coordinator shows no address for it; is it older than this agent?")
            location = response.headers.get("Location", "")
        if not is_safe(location, loopback=True):
            raise InvalidRequest(f"cannot fetch {self.revision.url}: the coordinator leads to an address without https")
        headers = {"If-Match": f'"{self.revision.etag}"'} if self.revision.etag else {}
        return Target(location, self.revision.url, self.public, headers, self.revision.etag, True, self.public)
