"""Task notifications on the stream of `subscriptions/listen`, for clients that rather listen than poll."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.mcpserver import require_client_extension
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    Notification,
    RequestId,
    ServerNotification,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsListenRequestParams,
)
from pydantic import TypeAdapter, ValidationError

from server.tasks.task import TASKS

if TYPE_CHECKING:
    from mcp.server.extension import RequestHandler
    from mcp.server.session import ServerSession

    from server.tasks.extension import TasksExtension

logger = logging.getLogger(__name__)

MOST_TASKS: Final = 100
_LOOK_S = 0.5
_TASK_IDS: Final = TypeAdapter(list[str])


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A task as it stands now."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


class TaskListening:
    """Serves listen requests: those that name tasks hear of them besides whatever else they asked for.

    Parameters
    ----------
    extension : TasksExtension
        Finds the tasks.
    listen_to_lists : RequestHandler
        The SDK's own handler, which acknowledges, tells of changed lists and ends with the stream.
    """

    def __init__(self, extension: TasksExtension, listen_to_lists: RequestHandler) -> None:
        self._extension = extension
        self._listen_to_lists = listen_to_lists

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> HandlerResult:
        """Serve one stream until its client leaves."""
        asked = _asked_for(params)
        if not asked:
            return await self._listen_to_lists(ctx, params)
        require_client_extension(ctx, TASKS)
        agreed = [task_id for task_id in asked if await self._is_known(task_id)]
        session = _AcknowledgingSession(ctx.session, agreed)
        telling = asyncio.create_task(self._tell(session, ctx.request_id, agreed), name="task notifications")
        try:
            return await self._listen_to_lists(replace(ctx, session=cast("ServerSession", session)), params)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _is_known(self, task_id: str) -> bool:
        try:
            await self._extension.find(task_id)
        except MCPError as error:
            if error.code == INVALID_PARAMS:
                return False
            raise
        return True

    async def _tell(
        self, session: _AcknowledgingSession, subscription_id: RequestId | None, task_ids: Sequence[str]
    ) -> None:
        """Send each task as it is and whenever it changed, until it is over."""
        await session.acknowledged.wait()
        told: dict[str, object] = {}
        open_ids = list(task_ids)
        while open_ids:
            for task_id in list(open_ids):
                try:
                    task, _ = await self._extension.find(task_id)
                except MCPError as error:
                    logger.warning("task %s cannot be told of: %s", task_id, error)
                    open_ids.remove(task_id)
                    continue
                # The time of the last sign of life changes all the time and is no news.
                news = replace(task, updated_ms=0)
                if told.get(task_id) != news:
                    told[task_id] = news
                    await session.send_task({**task.detailed(), "_meta": {SUBSCRIPTION_ID_META_KEY: subscription_id}})
                if task.is_over:
                    open_ids.remove(task_id)
            await asyncio.sleep(_LOOK_S)


class _AcknowledgingSession:
    """Passes notifications on, and says in the acknowledgement which tasks the stream tells of."""

    def __init__(self, session: ServerSession, task_ids: Sequence[str]) -> None:
        self._session = session
        self._task_ids = list(task_ids)
        self.acknowledged = asyncio.Event()

    async def send_notification(
        self, notification: ServerNotification, related_request_id: RequestId | None = None
    ) -> None:
        if not isinstance(notification, SubscriptionsAcknowledgedNotification):
            await self._session.send_notification(notification, related_request_id)
            return
        honored = notification.params.notifications.model_copy(update={"taskIds": self._task_ids})
        params = notification.params.model_copy(update={"notifications": honored})
        await self._session.send_notification(notification.model_copy(update={"params": params}), related_request_id)
        self.acknowledged.set()

    async def send_task(self, params: dict[str, Any]) -> None:
        notification = cast("ServerNotification", TaskNotification(params=params))
        await self._session.send_notification(notification, params["_meta"][SUBSCRIPTION_ID_META_KEY])


def _asked_for(params: SubscriptionsListenRequestParams) -> list[str]:
    asked = (params.notifications.model_extra or {}).get("taskIds")
    if asked is None:
        return []
    try:
        task_ids = _TASK_IDS.validate_python(asked, strict=True)
    except ValidationError as error:
        raise MCPError(INVALID_PARAMS, "notifications.taskIds must be a list of task ids") from error
    return list(dict.fromkeys(task_ids))[:MOST_TASKS]
