"""Commit archives from GitHub with the host's own token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shiftwork_agent.fetch.target import Target, Tls
from shiftwork_agent.sources import GitHubSettings
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.place import Commit, place_of
from shiftwork_contract.revision import Revision


@dataclass(frozen=True)
class OwnGitHub:
    """The API sends us on to where the archive lies; the token does not go there."""

    settings: GitHubSettings
    tls: Tls = True

    async def target(self, revision: Revision, fresh: bool) -> Target:
        place = place_of(revision)
        assert isinstance(place, Commit)
        url = f"{self.settings.api.rstrip('/')}/repos/{place.owner}/{place.repository}/tarball/{place.commit}"
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/vnd.github+json"}
        return Target(url, revision.url, self.tls, headers, loopback=True, onward=self.tls)

    def _token(self) -> str:
        try:
            return Path(self.settings.token_file).read_text().strip()
        except OSError as err:
            raise InvalidRequest(
                f"cannot read github.token_file {self.settings.token_file}: {err.strerror}; put a token there"
            ) from err
