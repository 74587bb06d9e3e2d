import re

import pytest
from mcp.client import Client

from server.mcp_app import create_server
from server.prompts import text_of
from server.settings import Settings
from tools.catalog import all_tools

ARGUMENTS = {
    "test_an_idea": {"idea": "buy {dips} of {symbol}", "symbol": "ETHUSDT"},
    "search_for_parameters": {"strategy": "ema_cross", "symbol": "BTCUSDT"},
    "judge_a_result": {"run_id": "run_0123456789ab"},
}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_three_workflows_are_offered_and_filled_in(settings: Settings, mode: str):
    async with Client(create_server(settings), mode=mode) as client:
        listed = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert listed.keys() == ARGUMENTS.keys()
        for name, arguments in ARGUMENTS.items():
            assert {each.name for each in listed[name].arguments or [] if each.required} == arguments.keys()
            text = (await client.get_prompt(name, arguments)).messages[0].content.text
            assert all(value in text for value in arguments.values())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_workflow_names_only_tools_that_exist(name: str):
    named = set(re.findall(r"`([a-z_]+)`", text_of(name)))
    assert named
    assert named <= {tool.name for tool in all_tools()}
