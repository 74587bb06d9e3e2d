"""Tasks through a real client: in memory, over stdio and over HTTP, with servers that are killed and started again."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import jsonschema
import pytest
from mcp.client import Client
from mcp.client.extension import ClientExtension, NotificationBinding, ResultClaim
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, Request, Result
from pydantic import BaseModel, ConfigDict

from engine.store.store import Store
from server.mcp_app import create_server, to_sdk_tool
from server.settings import Settings
from tools.catalog import all_tools
from tools.jobs import JobResult

ROOT = Path(__file__).parent.parent.parent
TASKS = "io.modelcontextprotocol/tasks"
QUICK = {"symbol": "BTCUSDT", "interval": "60", "start": "2024-01-01", "end": "2024-01-03"}
# Ten bars a request make thousands of requests: nothing a test waits for the end of.
LONG = {"symbol": "BTCUSDT", "interval": "1", "start": "2024-01-01", "end": "2024-03-01", "page": 10}
MIDDLING = {**LONG, "end": "2024-01-04"}
FAILING = {**QUICK, "category": "spot", "kind": "mark"}  # Bybit has no mark price of spot markets
LIMIT_S = 120
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Handle(Result):
    """What a tool answers to a client with tasks."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    ttl_ms: int | None
    poll_interval_ms: int


class Anything(Result):
    model_config = ConfigDict(extra="allow")


class Told(BaseModel):
    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[dict[str, Any], str]):
    name_param = "taskId"


class TasksOfClient(ClientExtension):
    """A client that drives tasks itself and keeps what it is told of them."""

    identifier = TASKS

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.heard = asyncio.Event()

    def claims(self) -> list[ResultClaim[Handle]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=self._never)]

    def notifications(self) -> list[NotificationBinding[Told]]:
        return [NotificationBinding(method="notifications/tasks", params_type=Told, handler=self._hear)]

    async def _never(self, claimed: Handle, context: object) -> CallToolResult:
        raise AssertionError("these tests drive tasks themselves")

    async def _hear(self, told: Told) -> None:
        self.told.append(told.model_dump())
        self.heard.set()


async def call(client: Client, **arguments: Any) -> Any:
    return await client.session.call_tool("start_backfill", arguments, allow_claimed=True)


async def ask(client: Client, verb: str, task_id: str, **more: Any) -> dict[str, Any]:
    request = TaskRequest(method=f"tasks/{verb}", params={"taskId": task_id, **more})
    return (await client.session.send_request(request, Anything)).model_dump(mode="json", by_alias=True)


async def poll(client: Client, task_id: str, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT_S):
        while not enough(task := await ask(client, "get", task_id)):  # noqa: ASYNC110 - polling is what tasks are for
            await asyncio.sleep(0.1)
    return task


async def finish(client: Client, task_id: str) -> dict[str, Any]:
    return await poll(client, task_id, lambda task: task["status"] not in ("working", "input_required"))


def has_begun(task: dict[str, Any]) -> bool:
    return bool(re.search(r", [1-9]\d* of \d+", task["statusMessage"]))


async def code_of(client: Client, verb: str, task_id: str, **more: Any) -> int:
    with pytest.raises(MCPError) as refused:
        await ask(client, verb, task_id, **more)
    return refused.value.error.code


def server_process(home: Path) -> dict[str, Any]:
    return {"env": {**os.environ, "BST_HOME": str(home / "home"), "PYTHONPATH": str(ROOT)}, "cwd": home}


def over_stdio(home: Path, extension: ClientExtension | None = None) -> Client:
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "server", "serve", "--feed", "simulated"], **server_process(home)
    )
    return Client(stdio_client(parameters), extensions=[extension] if extension else [])


@contextmanager
def http_server(home: Path) -> Generator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "server", "serve", "--http", "--port", "0", "--feed", "simulated"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", **server_process(home))
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield found.group(), process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with http_server(tmp_path_factory.mktemp("server")) as (url, _):
        yield url


def over_http(url: str, extension: ClientExtension | None = None) -> Client:
    return Client(url, extensions=[extension] if extension else [])


Connect = Callable[[ClientExtension | None], Client]


@pytest.fixture(params=["stdio", "http"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Return how to reach a server on this transport: one's own over stdio, a common one over HTTP."""
    if request.param == "stdio":
        return lambda extension: over_stdio(tmp_path, extension)
    url = request.getfixturevalue("url")
    return lambda extension: over_http(url, extension)


def in_memory(settings: Settings, extension: ClientExtension | None = None) -> Client:
    return Client(create_server(settings), extensions=[extension or TasksOfClient()])


def undeclared(settings: Settings) -> Client:
    return Client(create_server(settings))


async def test_the_server_says_that_it_has_tasks(settings: Settings):
    async with in_memory(settings) as client:
        assert client.server_capabilities.extensions[TASKS] == {}
        assert client.server_capabilities.tasks is None


async def test_the_result_of_a_task_is_the_tools_own_with_what_came_of_it(settings: Settings):
    async with in_memory(settings) as client:
        handle = await call(client, **QUICK)
        assert handle.status == "working"
        assert handle.ttl_ms is None
        task = await finish(client, handle.task_id)
        assert task["status"] == "completed"
        assert "error" not in task
        result = CallToolResult.model_validate(task["result"])
        told = (await client.call_tool("get_job_result", {"job_id": handle.task_id})).structured_content
        assert result.structured_content == {**told, "next": f'get_job_result {{"job_id":"{handle.task_id}"}}'}
        assert result.structured_content["items"][0]["bars"] == 48
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        jsonschema.validate(result.structured_content, tools["start_backfill"].output_schema)


async def test_a_request_that_was_fulfilled_before_is_a_task_that_is_over(settings: Settings):
    async with in_memory(settings) as client:
        first = await call(client, **QUICK)
        await finish(client, first.task_id)
        again = await call(client, **QUICK)
        assert (again.task_id, again.status) == (first.task_id, "completed")


async def test_a_job_that_fails_is_a_completed_task_with_the_tools_error(settings: Settings):
    async with in_memory(settings) as client:
        handle = await call(client, **FAILING)
        task = await finish(client, handle.task_id)
        assert task["status"] == "completed"
        assert task["result"]["isError"] is True
        assert task["result"]["structuredContent"]["code"] == "bad_request"
        assert task["result"]["structuredContent"]["fix"]
        assert "no mark candles" in task["statusMessage"]


async def test_a_call_that_starts_no_job_is_answered_at_once(settings: Settings):
    async with in_memory(settings) as client:
        assert (await call(client, **{**QUICK, "symbol": "NOSUCHTHING"})).structured_content["code"] == "not_found"
        assert (await call(client, **QUICK, limit=3)).structured_content["code"] == "bad_request"


async def test_an_unknown_task_is_a_mistake_in_the_parameters(settings: Settings):
    async with in_memory(settings) as client:
        assert await code_of(client, "get", "job_000000000000") == -32602
        assert await code_of(client, "cancel", "job_000000000000") == -32602
        assert await code_of(client, "update", "job_000000000000", inputResponses={}) == -32602


async def test_an_update_without_its_answers_is_refused_and_one_that_nobody_waits_for_is_ignored(settings: Settings):
    async with in_memory(settings) as client:
        handle = await call(client, **QUICK)
        assert await code_of(client, "update", handle.task_id) == -32602
        acknowledged = await ask(client, "update", handle.task_id, inputResponses={"name": {"action": "accept"}})
        assert set(acknowledged) - {"_meta"} == {"resultType"}
        assert (await finish(client, handle.task_id))["status"] == "completed"


async def test_clients_that_declare_nothing_see_nothing_of_tasks(settings: Settings):
    async with undeclared(settings) as plain_client:
        answer = await plain_client.call_tool("start_backfill", QUICK)
        assert set(answer.structured_content) == {"job_id", "state", "next"}
        job_id = answer.structured_content["job_id"]
        for verb in ("get", "cancel"):
            assert await code_of(plain_client, verb, job_id) == -32021
        assert await code_of(plain_client, "update", job_id, inputResponses={}) == -32021


async def test_clients_of_the_revision_before_see_nothing_of_tasks_even_if_they_declare_them(settings: Settings):
    extension = TasksOfClient()
    async with Client(create_server(settings), extensions=[extension], mode="legacy") as client:
        answer = await client.call_tool("start_backfill", QUICK)
        assert set(answer.structured_content) == {"job_id", "state", "next"}
        assert await code_of(client, "get", answer.structured_content["job_id"]) == -32601


async def test_a_server_that_starts_no_jobs_offers_no_tasks(settings: Settings):
    reading = settings.model_copy(update={"read_only": True})
    async with Client(create_server(reading), extensions=[TasksOfClient()]) as client:
        assert TASKS not in client.server_capabilities.extensions
        assert await code_of(client, "get", "job_000000000000") == -32601


async def test_a_job_that_was_interrupted_too_often_ends_its_task(settings: Settings):
    async with in_memory(settings) as client:
        settings.home.mkdir()
        store = await Store.open(settings.store_url)
        job = await store.add_job("backfill", {"feed": "simulated"}, at_ms=1)
        for _ in range(10):
            assert await store.claim_job(job.id, store.owner, now_ms=2, lease_ms=1000)
            await store.finish_job(job.id, store.owner, "interrupted", now_ms=3)
        await store.close()
        task = await ask(client, "get", job.id)
        assert task["status"] == "completed"
        assert "interrupted 10 times" in task["result"]["structuredContent"]["message"]


async def test_what_a_seal_withholds_by_now_is_refused_as_the_answer_of_the_task(settings: Settings):
    market: dict[str, Any] = {"feed": "simulated", "category": "linear"}
    async with in_memory(settings) as client:
        settings.home.mkdir()
        store = await Store.open(settings.store_url)
        job = await store.add_job("grid", {**market, "symbol": "BTCUSDT", "end_ms": 3}, at_ms=1)
        assert await store.claim_job(job.id, store.owner, now_ms=2, lease_ms=1000)
        await store.finish_job(job.id, store.owner, "done", now_ms=3, result={"items": [{"score": 777}]})
        shown = await ask(client, "get", job.id)
        await store.create_study("late", **market, symbols=("BTCUSDT",), range_ms=(0, 3), seal_from_ms=2, at_ms=4)
        await store.close()
        task = await ask(client, "get", job.id)
    assert shown["result"]["structuredContent"]["items"] == [{"score": 777}]
    assert (task["status"], task["result"]["isError"]) == ("completed", True)
    assert task["result"]["structuredContent"]["code"] == "sealed"


def test_the_result_of_every_task_tool_fits_the_tools_own_schema():
    tools = [tool for tool in all_tools() if tool.task]
    assert tools
    for tool in tools:
        schema = to_sdk_tool(tool).fn_metadata.output_schema
        required = set(schema["anyOf"][0]["required"])
        assert {"job_id", "state"} <= required <= {"next", *JobResult.model_fields}, tool.name
        assert tool.effect == "writes", tool.name


def listen(client: Client, *task_ids: object) -> Any:
    request = Request[dict[str, Any], str](
        method="subscriptions/listen", params={"notifications": {"taskIds": list(task_ids)}}
    )
    return client.session.send_request(request, Anything)


async def told_of(extension: TasksOfClient, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT_S):
        while not extension.told or not enough(extension.told[-1]):
            extension.heard.clear()
            await extension.heard.wait()
    return extension.told[-1]


@asynccontextmanager
async def listening(client: Client, *task_ids: object) -> AsyncIterator[None]:
    stream = asyncio.create_task(listen(client, *task_ids))
    try:
        yield
    finally:
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)


async def test_a_listener_is_told_how_its_task_goes_on(connect: Connect):
    extension = TasksOfClient()
    async with connect(extension) as client:
        handle = await call(client, **LONG)
        async with listening(client, handle.task_id, "job_000000000000"):
            assert (await told_of(extension, has_begun))["status"] == "working"
            await ask(client, "cancel", handle.task_id)
            last = await told_of(extension, lambda task: task["status"] != "working")
    assert last["status"] == "cancelled"
    assert {told["taskId"] for told in extension.told} == {handle.task_id}
    assert "io.modelcontextprotocol/subscriptionId" in last["_meta"]


async def test_a_listener_is_told_exactly_what_a_poll_would_tell(settings: Settings):
    extension = TasksOfClient()
    async with in_memory(settings, extension) as client:
        handle = await call(client, **QUICK)
        async with listening(client, handle.task_id):
            last = await told_of(extension, lambda task: task["status"] == "completed")
        polled = await ask(client, "get", handle.task_id)
    del last["_meta"], polled["_meta"], polled["resultType"]
    assert last == polled


async def test_the_acknowledgement_names_the_tasks_that_are_known(settings: Settings):
    acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def take(message: Any) -> None:
        if not acknowledged.done():
            acknowledged.set_result(message)

    async with Client(create_server(settings), extensions=[TasksOfClient()], message_handler=take) as client:
        handle = await call(client, **QUICK)
        async with (
            listening(client, "job_000000000000", handle.task_id, handle.task_id),
            asyncio.timeout(LIMIT_S),
        ):
            message = await acknowledged
    assert message.params.notifications.model_extra == {"taskIds": [handle.task_id]}


async def test_only_clients_with_tasks_may_listen_to_them(settings: Settings):
    async with in_memory(settings) as client, undeclared(settings) as plain_client:
        with pytest.raises(MCPError) as refused:
            await listen(plain_client, "job_000000000000")
        assert refused.value.error.code == -32021
        assert refused.value.error.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        with pytest.raises(MCPError) as mistaken:
            await listen(client, 7)
        assert mistaken.value.error.code == -32602


async def test_cancelling_a_task_stops_its_job(url: str):
    async with over_http(url, TasksOfClient()) as client:
        handle = await call(client, **LONG)
        await poll(client, handle.task_id, has_begun)
        acknowledged = await ask(client, "cancel", handle.task_id)
        assert set(acknowledged) - {"_meta"} == {"resultType"}
        task = await finish(client, handle.task_id)
        assert task["status"] == "cancelled"
        assert {"result", "error"}.isdisjoint(task)
        job = await client.call_tool("wait_for_job", {"job_id": handle.task_id, "wait_seconds": 0})
        assert job.structured_content["state"] == "cancelled"
        assert set(await ask(client, "cancel", handle.task_id)) - {"_meta"} == {"resultType"}
        again = await call(client, **LONG)
        assert (again.status, again.task_id == handle.task_id) == ("working", False)
        await ask(client, "cancel", again.task_id)


async def test_clients_that_declare_nothing_get_the_job_handle(connect: Connect):
    async with connect(None) as client:
        answer = await client.call_tool("start_backfill", QUICK)
        assert set(answer.structured_content) == {"job_id", "state", "next"}
        assert await code_of(client, "get", answer.structured_content["job_id"]) == -32021


async def test_a_task_outlives_a_server_whose_client_left(tmp_path: Path):
    async with over_stdio(tmp_path, TasksOfClient()) as client:
        handle = await call(client, **LONG)
        before = await poll(client, handle.task_id, has_begun)
    async with over_stdio(tmp_path, TasksOfClient()) as client:
        after = await poll(client, handle.task_id, has_begun)
        assert after["createdAt"] == before["createdAt"]
        assert (before["status"], after["status"]) == ("working", "working")
        await ask(client, "cancel", handle.task_id)
        assert (await finish(client, handle.task_id))["status"] == "cancelled"


async def test_a_task_outlives_a_server_that_was_killed(tmp_path: Path):
    with http_server(tmp_path) as (url, process):
        async with over_http(url, TasksOfClient()) as client:
            handle = await call(client, **MIDDLING)
            before = await poll(client, handle.task_id, has_begun)
            process.kill()
            await asyncio.to_thread(process.wait, LIMIT_S)
    assert before["status"] == "working"
    with http_server(tmp_path) as (url, _):
        async with over_http(url, TasksOfClient()) as client:
            task = await finish(client, handle.task_id)
    assert task["status"] == "completed"
    assert task["result"]["structuredContent"]["items"][0]["bars"] == 3 * 24 * 60


def test_the_routing_header_must_name_the_task(url: str):
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
    }
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks/get",
        "params": {"taskId": "job_000000000000", "_meta": meta},
    }
    headers = {**HEADERS, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tasks/get"}
    for name, status, code in (
        ({}, 400, -32020),
        ({"Mcp-Name": "job_111111111111"}, 400, -32020),
        ({"Mcp-Name": "job_000000000000"}, 400, -32602),
    ):
        answer = httpx2.post(url, json=body, headers={**headers, **name}, timeout=LIMIT_S)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
