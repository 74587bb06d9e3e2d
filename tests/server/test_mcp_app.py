import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from mcp.client import Client
from mcp.server.mcpserver import Resolve
from mcp.types import ElicitRequestParams, ElicitResult
from pydantic import BaseModel, Field

from engine.errors import NotFound, StorageFailed
from server.mcp_app import build_server, create_server
from server.settings import Settings
from tools.asking import consent
from tools.declare import LabHandle, ProgressHandle, ToolDef, tool

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


class Answer(BaseModel):
    title: str
    rows: list[int] = []


@tool("reads")
async def echo(
    title: Annotated[str, Field(description="A text", max_length=20)],
    count: Annotated[int, Field(ge=0, le=50_000, description="Rows")] = 0,
) -> Answer:
    """Return what was sent."""
    return Answer(title=title, rows=list(range(count)))


@tool("reads")
async def find_nothing() -> Answer:
    """Fail in a way that was foreseen."""
    raise NotFound("there is no 'x'", fix="list_things names them")


@tool("reads")
async def crash() -> Answer:
    """Fail in a way nobody foresaw."""
    raise RuntimeError("secret detail")


@tool("reads")
async def use_lab(*, lab: LabHandle) -> Answer:
    """Need the lab."""
    return Answer(title=type(lab).__name__)


@tool("deletes")
async def remove(
    confirm: Annotated[bool | None, Field(description="Must be true")] = None,
    *,
    agreed: Annotated[bool, Resolve(consent("Remove it?"))],
) -> Answer:
    """Remove something."""
    return Answer(title=f"removed {agreed}")


@tool("reads")
async def work(*, progress: ProgressHandle) -> Answer:
    """Report far too often, and backwards."""
    for done in [*range(200), 5, 200]:
        await progress(done, 200, "bars")
    return Answer(title="done")


class Stage:
    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()


@dataclass
class Keeper:
    failure: Exception | None = None

    async def lab(self) -> Any:
        if self.failure:
            raise self.failure
        return object()


def serve(*tools: ToolDef, failure: Exception | None = None):
    @asynccontextmanager
    async def lifespan(_server: Any) -> AsyncGenerator[Keeper]:
        yield Keeper(failure)

    return build_server(tools, version="0", lifespan=lifespan)


@MODES
async def test_an_answer_carries_the_same_compact_facts_in_both_channels(mode: str):
    async with Client(serve(echo), mode=mode) as client:
        result = await client.call_tool("echo", {"title": "hello", "count": 3})
    assert result.structured_content == {"title": "hello", "rows": [0, 1, 2]}
    assert result.content[0].text == '{"title":"hello","rows":[0,1,2]}'


@MODES
async def test_an_unknown_argument_is_refused_with_the_nearest_name(mode: str):
    async with Client(serve(echo), mode=mode) as client:
        result = await client.call_tool("echo", {"titel": "hello", "title": "x"})
    assert result.is_error
    assert result.structured_content["code"] == "bad_request"
    assert "did you mean 'title'" in result.structured_content["message"]


async def test_a_schema_has_no_generated_titles_and_keeps_a_property_called_title():
    async with Client(serve(echo)) as client:
        schema = (await client.list_tools()).tools[0].input_schema
    assert "title" not in schema
    assert schema["additionalProperties"] is False
    assert schema["properties"]["title"] == {"description": "A text", "type": "string"}


@MODES
async def test_a_foreseen_failure_names_its_fix(mode: str):
    async with Client(serve(find_nothing), mode=mode) as client:
        result = await client.call_tool("find_nothing", {})
    assert result.is_error
    told = {"code": "not_found", "message": "there is no 'x'", "fix": "list_things names them"}
    assert result.structured_content == {**told, "retryable": False, "retry_after_s": None}
    assert json.loads(result.content[0].text) == result.structured_content


@MODES
async def test_a_crash_tells_nothing_of_its_inside(mode: str):
    async with Client(serve(crash), mode=mode) as client:
        result = await client.call_tool("crash", {})
    assert result.structured_content["code"] == "internal"
    assert "secret detail" not in result.model_dump_json()


@MODES
async def test_a_lab_that_cannot_open_is_told_as_the_failure_it_is(mode: str):
    failure = StorageFailed("the disk is full", fix="free some space")
    async with Client(serve(use_lab, failure=failure), mode=mode) as client:
        result = await client.call_tool("use_lab", {})
    assert result.structured_content["code"] == "storage"
    assert result.structured_content["fix"] == "free some space"


@MODES
async def test_an_unknown_tool_is_answered_with_the_nearest_names(mode: str):
    async with Client(serve(echo), mode=mode) as client:
        result = await client.call_tool("ehco", {})
    assert result.structured_content["code"] == "not_found"
    assert "echo" in result.structured_content["fix"]


@MODES
async def test_consent_by_argument_needs_no_dialog(mode: str):
    async with Client(serve(remove), mode=mode) as client:
        result = await client.call_tool("remove", {"confirm": True})
    assert result.structured_content["title"] == "removed True"


@MODES
async def test_a_client_without_dialogs_is_told_to_pass_the_argument(mode: str):
    async with Client(serve(remove), mode=mode) as client:
        result = await client.call_tool("remove", {})
    assert result.structured_content["code"] == "bad_request"
    assert "confirm: true" in result.structured_content["fix"]


@MODES
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (ElicitResult(action="accept", content={"confirm": True}), "removed True"),
        (ElicitResult(action="accept", content={"confirm": False}), "cancelled"),
        (ElicitResult(action="decline"), "cancelled"),
    ],
)
async def test_a_client_with_dialogs_asks_its_user(mode: str, reply: ElicitResult, outcome: str):
    asked: list[str] = []

    async def answer(_context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return reply

    async with Client(serve(remove), mode=mode, elicitation_callback=answer) as client:
        result = await client.call_tool("remove", {})
    assert asked == ["Remove it?"]
    assert outcome in (result.structured_content.get("title"), result.structured_content.get("code"))


@MODES
async def test_an_explicit_no_removes_nothing(mode: str):
    async with Client(serve(remove), mode=mode) as client:
        result = await client.call_tool("remove", {"confirm": False})
    assert result.structured_content["code"] == "cancelled"


@MODES
async def test_progress_rises_starts_at_once_and_is_never_sent_too_often(mode: str):
    seen: list[float] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    loop = asyncio.get_running_loop()
    async with Client(serve(work), mode=mode) as client:
        began = loop.time()
        await client.call_tool("work", {}, progress_callback=on_progress)
        seconds = loop.time() - began
    assert seen[0] == 0
    assert seen == sorted(set(seen))
    assert len(seen) <= 4 * (1 + int(seconds))


@MODES
async def test_cancelling_a_call_stops_the_tool(mode: str):
    stage = Stage()

    @tool("reads")
    async def wait_forever() -> Answer:
        """Wait."""
        stage.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stage.stopped.set()
        raise AssertionError("unreachable")

    async with Client(serve(wait_forever), mode=mode) as client:
        call = asyncio.create_task(client.call_tool("wait_forever", {}))
        await stage.started.wait()
        call.cancel()
        async with asyncio.timeout(60):
            await stage.stopped.wait()


async def test_a_read_only_server_offers_nothing_that_changes_the_store(settings: Settings):
    server = create_server(settings.model_copy(update={"read_only": True}))
    async with Client(server) as client:
        tools = (await client.list_tools()).tools
    assert tools
    assert all(each.annotations is not None and each.annotations.read_only_hint for each in tools)


@MODES
async def test_the_tool_list_says_how_long_it_may_be_kept_and_has_all_hints(settings: Settings, mode: str):
    async with Client(create_server(settings), mode=mode) as client:
        listed = await client.list_tools()
    if mode == "auto":
        assert listed.ttl_ms == 3_600_000
    for each in listed.tools:
        assert each.title
        assert each.annotations is not None
        hints = each.annotations.model_dump(exclude={"title"})
        assert None not in hints.values()
        assert each.input_schema["additionalProperties"] is False


async def test_a_caller_who_names_its_tools_is_answered_as_by_a_server_with_all_of_them(settings: Settings):
    answers = []
    for only in ((), ("list_strategies",)):
        async with Client(create_server(settings, only=only)) as client:
            offered = {tool.name for tool in (await client.list_tools()).tools}
            answers.append((await client.call_tool("list_strategies", {"limit": 3})).structured_content)
    assert offered == {"list_strategies"}
    assert answers[0] == answers[1]


async def test_a_tool_that_the_settings_withhold_stays_withheld_from_a_caller_who_names_it(settings: Settings):
    withholding = settings.model_copy(update={"exclude_tools": ("get_candles",)})
    refusals = []
    for only in ((), ("get_candles",)):
        async with Client(create_server(withholding, only=only)) as client:
            refusals.append((await client.call_tool("get_candles", {})).structured_content)
    assert refusals[0] == refusals[1]
    assert refusals[0] is not None
    assert refusals[0]["code"] == "not_found"
