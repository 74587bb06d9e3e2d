import asyncio
import sys

from mcp.client import Client

from server.mcp_app import create_server
from server.settings import Settings
from server.warmup import WarmUp


async def test_warming_up_begins_after_the_first_tool_list_and_only_once(settings: Settings):
    server = create_server(settings)
    warm_up = WarmUp(server.keeper, head_start_seconds=0)
    server.middleware.append(warm_up)
    async with Client(server) as client:
        await client.list_prompts()
        assert warm_up.task is None
        await client.list_tools()
        first = warm_up.task
        assert first is not None
        await client.list_tools()
        assert warm_up.task is first
        async with asyncio.timeout(600):
            await first
        assert first.exception() is None
    assert "server.assembly" in sys.modules


async def test_listing_opens_no_lab_and_writes_nothing(settings: Settings):
    async with Client(create_server(settings)) as client:
        await client.list_tools()
        await client.list_prompts()
        await client.list_resource_templates()
    assert not settings.home.exists()


async def test_a_server_that_finds_a_database_opens_it_so_that_jobs_left_behind_go_on(settings: Settings):
    async with Client(create_server(settings)) as client:
        await client.call_tool("health_check", {})
    server = create_server(settings)
    warm_up = WarmUp(server.keeper, head_start_seconds=0)
    server.middleware.append(warm_up)
    async with Client(server) as client:
        await client.list_tools()
        assert warm_up.task is not None
        async with asyncio.timeout(600):
            await warm_up.task
        assert server.keeper.is_open
