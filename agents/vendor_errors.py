"""What a vendor's failure means: exceptions of the client library, by status and name, as attempts that failed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.client import AttemptFailed, FailureKind

_BY_NAME: Mapping[str, FailureKind] = {
    "Timeout": "timeout",
    "APITimeoutError": "timeout",
    "ContextWindowExceededError": "context_window",
    "ContentPolicyViolationError": "content_policy",
    "JSONSchemaValidationError": "bad_payload",
    "MidStreamFallbackError": "cut_stream",
}
_BY_STATUS: Mapping[int, FailureKind] = {
    400: "bad_request",
    401: "authentication",
    402: "payment",
    403: "permission",
    404: "model_not_found",
    408: "timeout",
    409: "server",
    422: "bad_request",
    425: "server",
    429: "rate_limited",
    500: "server",
    502: "overloaded",
    503: "overloaded",
    504: "overloaded",
    529: "overloaded",
}
# Classes of the connection below, met as causes; by name, because importing them would import the client library.
_UNREACHABLE_NAMES = frozenset(("ConnectError", "ConnectionRefusedError", "gaierror", "ClientConnectorError"))
_BROKEN_NAMES = frozenset(
    ("RemoteProtocolError", "ReadError", "WriteError", "ConnectionResetError", "ServerDisconnectedError")
)
_PAYLOAD_NAMES = frozenset(("JSONDecodeError", "ValidationError"))
_QUOTA = re.compile(
    r"insufficient_quota|exceeded your (?:current|monthly) quota|billing|quota[_ ]exceeded", re.IGNORECASE
)
_CONTEXT = re.compile(r"context[_ ]length|maximum context|context window", re.IGNORECASE)
_LONGEST_DETAIL = 300
_READ = 200
_KEY_LIKE = re.compile(r"\b(?:sk|pplx|gho|ghu|ghp|tid)[-_=][A-Za-z0-9_\-]{8,}|(?i:bearer)\s+\S+")


def attempt_failure(error: BaseException, secrets: Sequence[str]) -> AttemptFailed:
    """Return what a vendor's exception means to the router."""
    for each in _chain(error):
        if isinstance(each, AttemptFailed):
            return each
    status, answered = _status(error), _answered_status(error)
    detail = redacted(f"{type(error).__name__}: {error}", secrets)
    kind = _kind(error, status)
    if kind == "server" and answered is None:
        # No server said 500: the library's word for an answer it could not read.
        kind = "bad_payload"
    return AttemptFailed(kind, detail, status=answered, retry_after_s=_retry_after_s(error))


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Return a text for the audit trail: one line, shortened, without keys."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    text = " ".join(_KEY_LIKE.sub("[key]", text).split())
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + "..."


def _kind(error: BaseException, status: int | None) -> FailureKind:
    names = [type(each).__name__ for each in _chain(error)]
    named: list[FailureKind] = [_BY_NAME[name] for name in names if name in _BY_NAME]
    if named:
        return named[0]
    text = str(error)
    if _UNREACHABLE_NAMES & set(names) or "Connection refused" in text or "connection attempts failed" in text:
        return "unreachable"
    if _BROKEN_NAMES & set(names):
        return "connection"
    if status == 400 and _CONTEXT.search(text):
        return "context_window"
    if status == 429 and _QUOTA.search(text):
        return "quota"
    if status == 200 or _PAYLOAD_NAMES & set(names):
        return "failed_run" if "run failed" in text else "bad_payload"
    if status is None:
        return "connection"
    return _BY_STATUS.get(status, _by_hundred(status))


def _by_hundred(status: int) -> FailureKind:
    return "bad_request" if status < 500 else "server"


def _status(error: BaseException) -> int | None:
    for each in _chain(error):
        status = getattr(each, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _answered_status(error: BaseException) -> int | None:
    """Return the status that a server sent; the library puts 500 and 503 on failures of its own."""
    for each in _chain(error):
        if type(each).__name__ == "HTTPStatusError":
            return getattr(getattr(each, "response", None), "status_code", None)
        if getattr(each, "status_code", None) == _READ:
            return _READ
    return None


def _retry_after_s(error: BaseException) -> float | None:
    for each in _chain(error):
        for headers in (getattr(each, "litellm_response_headers", None), _response_headers(each)):
            value: Any = headers.get("retry-after") if headers is not None else None
            try:
                return max(0.0, float(value))
            except (TypeError, ValueError):
                continue
    return None


def _response_headers(error: BaseException) -> Any:
    return getattr(getattr(error, "response", None), "headers", None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what caused it, nearest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen and not isinstance(error, asyncio.CancelledError):
        seen.add(id(error))
        yield error
        original = getattr(error, "original_exception", None)
        error = original if isinstance(original, BaseException) else (error.__cause__ or error.__context__)
