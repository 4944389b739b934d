"""S3 with the coordinator's own credentials, as boto3 finds them: environment, profile, role of the host.

Its calls block: callers make them in a thread. Nothing secret is kept, and nothing presigned is logged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock
from typing import Any, BinaryIO, cast

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.place import S3Object, place_of
from shiftwork_contract.revision import BundleType, Revision
from shiftwork_coordinator.aws.clients import region_here

VALID_FOR = 900
"""Seconds for which a download may begin with what `presign` returns; it may then take as long as it does."""


class S3:
    """Endpoint and region come from AWS_ENDPOINT_URL_S3 and AWS_REGION, or from the profile."""

    def __init__(self) -> None:
        self._made: Any = None
        self._making = Lock()
        self._seen: set[str] = set()

    def look_up(self, place: S3Object, bundle_type: BundleType) -> Revision:
        """The object as it is now, pinned by version where the bucket keeps versions and by ETag; no identity yet."""
        with _translated(place):
            found = self._client().head_object(**_named(place))
        version = found.get("VersionId", "")
        self._seen.add(place.bucket)
        pinned = S3Object(place.bucket, place.key, "" if version == "null" else version)
        size = int(found["ContentLength"])
        return Revision("", pinned.url, bundle_type=bundle_type, size=size, etag=str(found["ETag"]).strip('"'))

    @contextlib.contextmanager
    def open(self, revision: Revision) -> Iterator[BinaryIO]:
        """Its bytes, if it is still the one that was looked up."""
        place = place_of(revision)
        assert isinstance(place, S3Object)
        with _translated(place):
            body = self._client().get_object(**_named(place), IfMatch=f'"{revision.etag}"')["Body"]
            with contextlib.closing(body):
                yield cast(BinaryIO, body)

    def presign(self, place: S3Object) -> str:
        """A web address under which whoever has it may read this object for a while."""
        with _translated(place):
            if place.bucket not in self._seen:  # so that the client learns which region the bucket is in
                self._client().head_object(**_named(place))
                self._seen.add(place.bucket)
            return str(self._client().generate_presigned_url("get_object", _named(place), ExpiresIn=VALID_FOR))

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                import boto3
                from botocore.config import Config

                config = Config(signature_version="s3v4", connect_timeout=10, read_timeout=60)
                self._made = boto3.client("s3", region_name=region_here(), config=config)
            return self._made


def _named(place: S3Object) -> dict[str, str]:
    named = {"Bucket": place.bucket, "Key": place.key}
    return named | ({"VersionId": place.version} if place.version else {})


@contextlib.contextmanager
def _translated(place: S3Object) -> Iterator[None]:
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as err:
        raise _refused(
            place, "the coordinator has no AWS credentials", "NoCredentials",
            "give it a role, a profile (AWS_PROFILE) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from err  # fmt: skip
    except boto.NoRegionError as err:
        raise _refused(place, "the coordinator knows no region", "NoRegion", "set AWS_REGION") from err
    except boto.ProfileNotFound as err:
        raise _refused(place, str(err), "NoCredentials", "correct AWS_PROFILE of the coordinator") from err
    except boto.ClientError as err:
        raise _answered(place, err.response) from err
    except (boto.BotoCoreError, HTTPError, OSError) as err:
        kind = type(err).__name__
        raise Unavailable(f"cannot read {place.url}: S3 cannot be reached, or broke off ({kind}); try again") from err


def _refused(place: S3Object, problem: str, code: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f"cannot read {place.url}: {problem}; {remedy}", code=code)


def _answered(place: S3Object, answer: Any) -> ShiftworkError:
    """What S3 says, in our words. To a HeadObject it answers with a number alone."""
    code, about = str(answer["Error"]["Code"]), answer.get("ResponseMetadata", {})
    region = about.get("HTTPHeaders", {}).get("x-amz-bucket-region", "") or answer["Error"].get("Region", "")
    if code in ("404", "NoSuchKey", "NoSuchVersion", "NoSuchBucket"):
        what = "bucket" if code == "NoSuchBucket" else "object"
        return _refused(
            place, f"there is no such {what} ({code})", "RevisionDoesNotExistException",
            "check bucket, key and versionId, and that the upload has ended",
        )  # fmt: skip
    if code in (
        "301",
        "307",
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ):
        return _refused(
            place, f"the bucket is in {region or 'another region'} ({code})", "WrongRegion",
            f"set AWS_REGION={region or '…'} for the coordinator",
        )  # fmt: skip
    if code in ("412", "PreconditionFailed"):
        return _refused(place, "it was replaced while it was read", "RevisionChanged", "deploy again")
    if code in ("405", "MethodNotAllowed"):
        return _refused(place, "that version is a delete marker", "RevisionDoesNotExistException", "name another one")
    if about.get("HTTPStatusCode", 0) >= 500 or code in ("SlowDown", "RequestTimeout"):
        return Unavailable(f"cannot read {place.url}: S3 answered {code}; try again")
    remedy = "allow the coordinator s3:GetObject, and s3:GetObjectVersion for a versionId"
    return _refused(place, f"S3 refuses the coordinator ({code})", "SourceDenied", remedy)
