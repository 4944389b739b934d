"""Commit archives from GitHub, or GitHub Enterprise. The token stays here: agents get the address that it buys."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, cast
from urllib.error import URLError
from urllib.parse import urlsplit

import aiohttp

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.place import Commit

API = "https://api.github.com"
LIMIT = 30.0


class GitHub:
    """`api` is the base of its REST API. Without a token only public repositories can be read."""

    def __init__(self, api: str = API, token: str = "") -> None:
        parts = urlsplit(api)
        if parts.scheme != "https" and parts.hostname != "127.0.0.1":
            raise InvalidRequest(f"cannot use SHIFTWORK_GITHUB_API={api!r}: write https://host/api/v3")
        self._api, self._token = api.rstrip("/"), token

    @classmethod
    def configured(cls, environment: Mapping[str, str]) -> GitHub:
        """By SHIFTWORK_GITHUB_API and SHIFTWORK_GITHUB_TOKEN, or better SHIFTWORK_GITHUB_TOKEN_FILE."""
        token, file = environment.get("SHIFTWORK_GITHUB_TOKEN", ""), environment.get("SHIFTWORK_GITHUB_TOKEN_FILE")
        try:
            token = Path(file).read_text().strip() if file else token
        except OSError as err:
            raise InvalidRequest(f"cannot read SHIFTWORK_GITHUB_TOKEN_FILE={file}: {err.strerror}") from err
        return cls(environment.get("SHIFTWORK_GITHUB_API") or API, token)

    async def locate(self, place: Commit) -> str:
        """The web address of the commit's tarball: good for some minutes, and for whoever has it."""
        url = f"{self._api}/repos/{place.owner}/{place.repository}/tarball/{place.commit}"
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        timeout = aiohttp.ClientTimeout(total=LIMIT)
        try:
            async with (
                aiohttp.ClientSession(trust_env=True, timeout=timeout) as session,
                session.get(url, headers=headers, allow_redirects=False) as answer,
            ):
                return self._location(place, answer)
        except (aiohttp.ClientError, TimeoutError) as err:
            kind = type(err).__name__
            raise Unavailable(f"cannot read {place.url}: {self._api} does not answer ({kind}); try again") from err

    def _location(self, place: Commit, answer: aiohttp.ClientResponse) -> str:
        location = answer.headers.get("Location", "")
        if answer.status in (301, 302, 307) and self._may_lead(location):
            return location
        if answer.status == 404:
            remedy = "check owner, repository and commit" + self._about_token(", and that its token may read them")
            raise InvalidRequest(
                f"cannot find {place.url} on {self._api}: {remedy}", code="RevisionDoesNotExistException"
            )
        if answer.status in (403, 429) and answer.headers.get("X-RateLimit-Remaining") == "0":
            raise Unavailable(f"cannot read {place.url}: {self._api} answers no more for now; try again later")
        if answer.status in (401, 403):
            remedy = self._about_token("; give the coordinator another token, with read access to contents")
            raise InvalidRequest(
                f"cannot read {place.url}: {self._api} refuses the coordinator ({answer.status}){remedy}",
                code="SourceDenied",
            )
        raise Unavailable(f"cannot read {place.url}: {self._api} answered {answer.status}; try again")

    def _may_lead(self, location: str) -> bool:
        """Somewhere safe: https, or where the API itself is."""
        return location.startswith("https://") or urlsplit(location).netloc == urlsplit(self._api).netloc

    def _about_token(self, with_one: str) -> str:
        return with_one if self._token else "; for what is private give the coordinator SHIFTWORK_GITHUB_TOKEN_FILE"

    @contextlib.contextmanager
    def open(self, location: str, place: Commit) -> Iterator[BinaryIO]:
        """The archive's bytes from where `locate` said. Blocks: called in a thread."""
        try:
            with urllib.request.urlopen(location, timeout=60) as body:
                yield cast(BinaryIO, body)
        except (URLError, HTTPException, OSError) as err:
            kind = type(err).__name__
            raise Unavailable(f"cannot read {place.url}: GitHub broke off ({kind}); try again") from err
