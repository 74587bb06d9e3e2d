"""The tree of anticipated failures; leaves are named by what the caller does next.

::

    LabError
    ├── BadRequest           change an argument
    │   ├── BadExpression    change the expression at the named character
    │   └── TooLarge         ask for less, or for a job
    ├── NotFound             pick one of the names offered
    ├── Conflict             look at what is there already, then decide
    ├── DataMissing          fetch or import the data first
    ├── Sealed               ask for earlier bars, or open the holdout
    ├── Unavailable          wait and try again
    │   ├── Unreachable      check the network and the address
    │   ├── RateLimited      the exchange asks us to slow down
    │   └── Banned           the exchange refuses this address for a while
    ├── Refused              the exchange answered no for good
    ├── BadPayload           the other side sent something that cannot be trusted
    ├── StorageFailed        free space or mend the database
    └── Cancelled            nothing: it was asked for
"""

from __future__ import annotations

from typing import ClassVar


class LabError(Exception):
    """An anticipated failure, told so that a person or a model knows the next step.

    Parameters
    ----------
    message : str
        What was found and what was needed. Never a path, a secret or another library's text.
    fix : str
        The argument to change, the valid values, or the next tool to call.
    retry_after_s : float, optional
        Seconds after which the same call may succeed.
    """

    code: ClassVar[str] = "failed"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, fix: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.retry_after_s = retry_after_s


class BadRequest(LabError):
    """The caller changes an argument."""

    code = "bad_request"


class BadExpression(BadRequest):
    """The caller changes an expression; `position` is the character (from 0) where it went wrong."""

    code = "bad_expression"

    def __init__(self, message: str, *, fix: str = "", position: int | None = None) -> None:
        super().__init__(message, fix=fix)
        self.position = position


class TooLarge(BadRequest):
    """The caller asks for less, or for a job."""

    code = "too_large"


class NotFound(LabError):
    """The caller picks one of the names offered in `fix`."""

    code = "not_found"


class Conflict(LabError):
    """Something is there already, or changed meanwhile; the caller looks and decides."""

    code = "conflict"


class DataMissing(LabError):
    """The caller fetches or imports data first."""

    code = "data_missing"


class Sealed(LabError):
    """The bars are a sealed holdout; the caller asks for earlier ones, or has one chosen run evaluated on them."""

    code = "sealed"


class Unavailable(LabError):
    """The other side cannot answer now; the caller waits and tries again."""

    code = "unavailable"
    retryable = True


class Unreachable(Unavailable):
    """No connection came about: the name is not known, or nothing listens there; the caller checks the address."""


class RateLimited(Unavailable):
    """The exchange asks us to slow down."""

    code = "rate_limited"


class Banned(Unavailable):
    """The exchange refuses this address for a while; asking again before then makes it worse."""

    code = "banned"


class Refused(LabError):
    """The exchange answered no for good: a parameter, a region, a closed account."""

    code = "refused"


class BadPayload(LabError):
    """What arrived cannot be trusted, so nothing of it was kept; a later attempt may fare better."""

    code = "bad_payload"
    retryable = True


class StorageFailed(LabError):
    """The database cannot keep what it was given; free space or mend it."""

    code = "storage"


class Cancelled(LabError):
    """The caller asked for it."""

    code = "cancelled"
