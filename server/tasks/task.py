"""A task as the extension shows it, and where tasks come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from engine.core.times import iso_utc

TASKS: Final = "io.modelcontextprotocol/tasks"
TaskStatus = Literal["working", "input_required", "completed", "cancelled", "failed"]
FINAL_STATUSES: Final = frozenset({"completed", "cancelled", "failed"})


@dataclass(frozen=True, slots=True)
class Task:
    """Where a piece of work stands. Times are milliseconds UTC.

    A completed one has a `result`, the tool's own, also when that tells an error; a failed one the JSON-RPC `error`
    that ended it; one that waits for its client the `input_requests` not answered yet.
    """

    id: str
    status: TaskStatus
    message: str
    created_ms: int
    updated_ms: int
    poll_interval_ms: int
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    input_requests: Mapping[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Return whether the status is the last one."""
        return self.status in FINAL_STATUSES

    def created(self) -> dict[str, Any]:
        """Return the handle that stands in for a tool's result."""
        return {"resultType": "task", **self._metadata()}

    def detailed(self) -> dict[str, Any]:
        """Return everything there is to know now, the outcome included."""
        payload = {"result": self.result, "error": self.error, "inputRequests": self.input_requests}
        return self._metadata() | {name: dict(value) for name, value in payload.items() if value is not None}

    def _metadata(self) -> dict[str, Any]:
        return {
            "taskId": self.id,
            "status": self.status,
            "statusMessage": self.message,
            "createdAt": iso_utc(self.created_ms),
            "lastUpdatedAt": iso_utc(self.updated_ms),
            "ttlMs": None,  # nothing is thrown away
            "pollIntervalMs": self.poll_interval_ms,
        }


class TaskSource(Protocol):
    """Knows some tasks by their ids."""

    async def find(self, task_id: str) -> Task | None:
        """Return a task as it stands, None when it is not one of ours."""
        ...

    async def cancel(self, task_id: str) -> None:
        """Ask a task of ours to stop; one that is over stays as it is."""
        ...

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> None:
        """Hand in what the client answered; keys that nobody asks about are ignored."""
        ...
