from mcp.client import Client

from server.conformance.profile import create_conformance_server
from server.mcp_app import create_server
from server.settings import Settings


async def test_the_profile_is_the_real_server_with_fixtures_on_top(settings: Settings):
    async with Client(create_server(settings)) as client:
        real = [tool.model_dump() for tool in (await client.list_tools()).tools]
    async with Client(create_conformance_server(settings)) as client:
        profile = [tool.model_dump() for tool in (await client.list_tools()).tools]
    assert profile[: len(real)] == real
    task_fixtures = {"greet", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input"}
    added = {tool["name"] for tool in profile[len(real) :]}
    assert task_fixtures < added
    assert all(name.startswith("test_") for name in added - task_fixtures)


async def test_the_users_server_has_no_fixture(settings: Settings):
    async with Client(create_server(settings)) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
    assert not [name for name in names if name.startswith("test_")]
    assert prompts == ["test_an_idea", "search_for_parameters", "judge_a_result"]


async def test_a_crash_of_a_fixture_goes_through_the_same_policy(settings: Settings):
    async with Client(create_conformance_server(settings)) as client:
        result = await client.call_tool("test_error_handling", {})
    assert result.is_error
    assert result.structured_content["code"] == "internal"
