"""Errors as HTTP answers: one envelope, and never a traceback."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from aiohttp import web

from shiftwork_contract.errors import Conflict, Denied, InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.api.attempts import TooMany
from shiftwork_coordinator.auth import NotAllowed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()
STATUS = ((NotAllowed, 403), (Denied, 401), (Conflict, 409), (Unavailable, 503), (InvalidRequest, 400))
MISSING = ("DoesNotExistException", "NotFound")


def status_of(err: ShiftworkError) -> int:
    if isinstance(err, InvalidRequest) and err.code.endswith(MISSING):
        return 404
    return next((status for kind, status in STATUS if isinstance(err, kind)), 500)


def answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionError:
        raise  # whoever asked has gone, in the middle of a stream
    except TooMany as err:
        return answer(429, err.code, err.message, {"Retry-After": str(err.retry_after)})
    except ShiftworkError as err:
        if isinstance(err, Denied):
            log.warning("refused", method=request.method, path=request.path, remote=request.remote, code=err.code)
        return answer(status_of(err), err.code, err.message)
    except msgspec.ValidationError as err:
        return answer(400, "InvalidRequest", f"cannot use the body of {request.method} {request.path}: {err}")
    except msgspec.DecodeError as err:
        return answer(400, "InvalidRequest", f"cannot read the body of {request.method} {request.path}: {err}")
    except web.HTTPException as err:
        return answer(
            err.status, err.reason.replace(" ", ""), f"cannot answer {request.method} {request.path}: {err.reason}"
        )
    except Exception as err:
        number = secrets.token_hex(4)
        log.error("request failed", error_id=number, path=request.path, exc_info=err)
        return answer(500, "INTERNAL_ERROR", f"cannot answer: internal error {number}; the coordinator's log has it")
