"""What a scripted model server does wrong, and when."""

from __future__ import annotations

import random
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

FaultKind = Literal[
    "400",
    "401",
    "402",
    "403",
    "404",
    "429",
    "500",
    "502",
    "503",
    "context_window",
    "timeout",
    "keep_alive",
    "html",
    "bad_json",
    "not_json",
    "wrong_schema",
    "invented_number",
    "blank",
    "failed_run",
    "cut_stream",
    "slow_stream",
    "drop",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Part):
    """One thing that goes wrong.

    Attributes
    ----------
    kind : FaultKind
        `400`..`503` are HTTP statuses; `timeout` never answers; `keep_alive` sends blank lines (or stream comments)
        for `seconds` and then answers; `html` and `bad_json` break the envelope; `not_json`, `wrong_schema`,
        `invented_number` and `blank` break the content; `failed_run` is HTTP 200 with status failed (responses
        format; elsewhere 500); `cut_stream` and `drop` close the connection, after half or before the first byte;
        `slow_stream` pauses `seconds` between pieces.
    agent : str, optional
        Only for requests under this path prefix; every agent when left out.
    times : int, optional
        How often; for ever when left out.
    skip : int
        How many matching requests pass before it begins.
    retry_after_s : float, optional
        Sent as `Retry-After` with a status.
    seconds : float
        Pause of `keep_alive` and `slow_stream`.
    """

    kind: FaultKind
    agent: str | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    retry_after_s: Annotated[float, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0, le=600)] = 0.05


class FaultPlan(_Part):
    """Listed faults in order of request, and a share of requests that fail at random, decided by the seed."""

    faults: tuple[Fault, ...] = ()
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    share_kinds: tuple[FaultKind, ...] = FAULT_KINDS
    share_seconds: Annotated[float, Field(ge=0, le=600)] = 0.05
    share_retry_after_s: Annotated[float, Field(ge=0)] | None = None
    seed: int = 1


class FaultDirector:
    """Decides for each request in turn what goes wrong with it."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._seen = [0] * len(plan.faults)
        # A scripted failure must repeat exactly; nothing here is a secret.
        self._random = random.Random(plan.seed)  # noqa: S311

    def next_fault(self, agent: str) -> Fault | None:
        """Return the fault of the next request under this path prefix."""
        for position, fault in enumerate(self._plan.faults):
            if fault.agent not in {None, agent}:
                continue
            self._seen[position] += 1
            count = self._seen[position] - fault.skip
            if count >= 1 and (fault.times is None or count <= fault.times):
                return fault
        if self._plan.share and self._random.random() < self._plan.share:
            kind = self._random.choice(self._plan.share_kinds)
            retry_after_s = self._plan.share_retry_after_s if kind in {"429", "503"} else None
            return Fault(kind=kind, seconds=self._plan.share_seconds, retry_after_s=retry_after_s)
        return None
