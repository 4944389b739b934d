"""Errors of the AWS SDK, in our words: who can act, what is missing, what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from shiftwork_contract.errors import InvalidRequest, Unavailable

DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized"}
    | {"UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch"}
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"}
    | {"RequestThrottled", "RequestThrottledException", "PriorRequestNotComplete"}
)
_PREFIXES = {"elbv2": "elasticloadbalancing", "elb": "elasticloadbalancing"}
_OTHER_NAMES = {("lambda", "invoke"): "InvokeFunction"}
"""Operations whose action is called otherwise."""


@contextlib.contextmanager
def translated(service: str, operation: str) -> Iterator[None]:
    """Raises Unavailable for what may pass, InvalidRequest with AWS's own code for what a person must change."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as err:
        raise _client_error(service, operation, err) from err
    except BotoCoreError as err:
        raise _sdk_error(service, operation, err) from err


def action(service: str, operation: str) -> str:
    """The IAM action that an operation needs: `cloudwatch:DescribeAlarms`."""
    name = _OTHER_NAMES.get((service, operation)) or "".join(word.title() for word in operation.split("_"))
    return f"{_PREFIXES.get(service, service)}:{name}"


def _client_error(service: str, operation: str, err: object) -> InvalidRequest | Unavailable:
    answer = getattr(err, "response", {})
    found = answer.get("Error", {})
    code, text = str(found.get("Code", "")), str(found.get("Message", "")) or "it gave no reason"
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    what = action(service, operation)
    if code in THROTTLED:
        return Unavailable(f"cannot call {what} now: AWS throttles it ({code})", code="THROTTLED")
    if code in EXPIRED:
        return Unavailable(f"cannot call {what}: the credentials have expired; renew them", code="CREDENTIALS_EXPIRED")
    if code in DENIED:
        text = (
            f"cannot call {what}: {text}; allow the coordinator's role this action: `shiftwork aws policy` prints all"
            " that its groups need"
        )
        return InvalidRequest(text, code="IAM_ROLE_PERMISSIONS")
    if status >= 500 or not code:
        return Unavailable(f"cannot call {what} now: AWS answered {status or 'nothing'} {code}: {text}")
    return InvalidRequest(f"cannot call {what}: {text} ({code})", code=code)


def _sdk_error(service: str, operation: str, err: Exception) -> InvalidRequest | Unavailable:
    from botocore import exceptions as e

    what = action(service, operation)
    if isinstance(err, e.NoRegionError):
        return InvalidRequest(f"cannot call {what}: no region is set; set AWS_REGION, or `region` in the group")
    if isinstance(err, e.NoCredentialsError | e.PartialCredentialsError | e.CredentialRetrievalError):
        return InvalidRequest(
            f"cannot call {what}: the coordinator has no AWS credentials; give its host a role, or set AWS_PROFILE",
            code="IAM_ROLE_MISSING",
        )
    if isinstance(err, e.ParamValidationError | e.UnknownServiceError):
        return InvalidRequest(f"cannot call {what}: {err}")
    return Unavailable(f"cannot call {what} now: {err}")
