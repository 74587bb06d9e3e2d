"""Fixture tools of the Tasks extension: real durable jobs that sleep, fail or greet, and tasks that ask their client."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver import Context, require_client_extension
from mcp.server.mcpserver.tools import Tool
from mcp.types import INTERNAL_ERROR, CallToolResult, InputRequiredResult

from engine.errors import BadRequest, Cancelled
from engine.jobs import JobContext, Jobs
from server.conformance.interactive import asks, form, given
from server.conformance.plain import answer, text
from server.tasks.extension import declares_tasks
from server.tasks.task import TASKS, Task
from tools.declare import current_lab

if TYPE_CHECKING:
    from engine.jobs import Document

# The suite leaves jobs of a minute behind; they must not keep later ones waiting.
_AT_ONCE: Final = 64
_POLL_MS: Final = 100


class Sleep:
    """A job that sleeps and then says what it was told to say, or fails."""

    async def run(self, request: Document, context: JobContext) -> Document:
        """Sleep as long as asked unless cancelled before."""
        try:
            async with asyncio.timeout(request["seconds"]):
                await context.cancelled.wait()
        except TimeoutError:
            pass
        else:
            raise Cancelled("cancelled while asleep")
        if request["fails"]:
            raise BadRequest("the job failed on purpose", fix="expect nothing else of it")
        return {"said": request["says"]}

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Tell that a sleep never stands for another one."""
        del request, result
        return False


@dataclass(slots=True)
class Asking:
    """One task that waits for its client; `questions` are those not answered yet."""

    task: Task
    questions: dict[str, Any]
    answers: dict[str, Any] = field(default_factory=dict)


class AskingTasks:
    """Tasks in memory that wait for answers, or fail as the protocol fails."""

    def __init__(self) -> None:
        self._tasks: dict[str, Asking] = {}

    def ask(self, questions: Mapping[str, Any]) -> str:
        """Start a task that is done when all questions are answered."""
        return self._add(Asking(_new_task("waiting for its client"), dict(questions)))

    def fail(self) -> str:
        """Start a task that ends with a protocol error."""
        said = "raised on purpose"
        error = {"code": INTERNAL_ERROR, "message": said}
        return self._add(Asking(replace(_new_task(said), status="failed", error=error), {}))

    def _add(self, asking: Asking) -> str:
        self._tasks[asking.task.id] = asking
        return asking.task.id

    async def find(self, task_id: str) -> Task | None:
        """Return the task with the questions that are open."""
        asking = self._tasks.get(task_id)
        if asking is None or asking.task.is_over:
            return None if asking is None else asking.task
        if asking.questions:
            return replace(asking.task, status="input_required", input_requests=asking.questions)
        said = answer(text(f"answered: {', '.join(sorted(asking.answers))}"))
        return replace(asking.task, status="completed", result=said.model_dump(by_alias=True, exclude_none=True))

    async def cancel(self, task_id: str) -> None:
        """Stop waiting."""
        asking = self._tasks[task_id]
        asking.task = replace(asking.task, status="cancelled", updated_ms=_now_ms())

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> None:
        """Take the answers to open questions."""
        asking = self._tasks[task_id]
        for key in asking.questions.keys() & responses.keys():
            del asking.questions[key]
            asking.answers[key] = responses[key]
            asking.task = replace(asking.task, updated_ms=_now_ms())


def _new_task(message: str) -> Task:
    now_ms = _now_ms()
    return Task("task_" + secrets.token_urlsafe(16), "working", message, now_ms, now_ms, _POLL_MS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class TaskFixtures:
    """The tools the suite calls, each set with tasks of its own."""

    def __init__(self) -> None:
        self.asking = AskingTasks()
        self._jobs: Jobs | None = None

    @property
    def task_functions(self) -> tuple[Callable[..., Any], ...]:
        """Return the tools that answer with a task."""
        return (
            self.slow_compute,
            self.failing_job,
            self.protocol_error_job,
            self.confirm_delete,
            self.multi_input,
            self.test_tool_with_task,
        )

    def tools(self) -> list[Tool]:
        """Return all fixture tools."""
        return [Tool.from_function(function, structured_output=False) for function in (greet, *self.task_functions)]

    def task_tool_names(self) -> list[str]:
        """Return the names of the tools that answer with a task."""
        return [function.__name__ for function in self.task_functions]

    async def slow_compute(self, context: Context, seconds: float = 1, label: str = "") -> CallToolResult:
        """Take some seconds; clients without tasks wait for the answer."""
        says = f"{label} took {seconds} s"
        if declares_tasks(context.request_context):
            return await self._sleep(context, seconds, says)
        await asyncio.sleep(seconds)
        return answer(text(says))

    async def failing_job(self, context: Context) -> CallToolResult:
        """Fail as a tool fails, after a second; needs a client with tasks."""
        _must_declare(context)
        return await self._sleep(context, 1, "", fails=True)

    async def protocol_error_job(self, context: Context) -> CallToolResult:
        """Fail as the protocol fails; needs a client with tasks."""
        _must_declare(context)
        return _handle(self.asking.fail())

    async def confirm_delete(self, context: Context, filename: str) -> CallToolResult:
        """Ask one question while the task runs."""
        _must_declare(context)
        return _handle(self.asking.ask({"confirm": _question(f"Delete {filename}?", confirm=bool)}))

    async def multi_input(self, context: Context) -> CallToolResult:
        """Ask two questions at once while the task runs."""
        _must_declare(context)
        questions = {"name": _question("Your name?", name=str), "sure": _question("Sure?", confirm=bool)}
        return _handle(self.asking.ask(questions))

    async def test_tool_with_task(self, context: Context) -> CallToolResult | InputRequiredResult:
        """Ask before the task begins, then greet from it."""
        _must_declare(context)
        name = given(context, "user_name", "name")
        if not isinstance(name, str):
            return asks({"user_name": form("What is your name?", name=str)})
        return await self._sleep(context, 0, f"Hello, {name}!")

    async def _sleep(self, context: Context, seconds: float, says: str, *, fails: bool = False) -> CallToolResult:
        """Start a durable job in a runner of our own, which has room for many."""
        if self._jobs is None:
            lab = await current_lab(context)
            self._jobs = Jobs(lab.store, lab.clock, {"conformance": Sleep()}, at_once=_AT_ONCE)
        request = {"seconds": seconds, "says": says, "fails": fails, "call": secrets.token_hex(8)}
        return _handle((await self._jobs.submit("conformance", request)).id)


async def greet(name: str) -> CallToolResult:
    """Greet at once."""
    return answer(text(f"Hello, {name}!"))


def _handle(task_id: str) -> CallToolResult:
    return CallToolResult(content=[], structured_content={"job_id": task_id})


def _must_declare(context: Context) -> None:
    require_client_extension(context.request_context, TASKS)


def _question(message: str, **fields: type) -> dict[str, Any]:
    return form(message, **fields).model_dump(by_alias=True, mode="json", exclude_none=True)
