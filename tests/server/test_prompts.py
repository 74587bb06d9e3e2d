import re

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

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


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("test_an_idea", {}, ("'idea' is missing", "'symbol' is missing")),
        ("judge_a_result", {"run_id": "run_0123456789ab", "runid": "x"}, ("'runid' is unknown", "takes run_id")),
        ("judge_result", {}, ("no prompt 'judge_result'", "judge_a_result")),
    ],
)
async def test_a_wrong_call_is_invalid_params_and_no_crash(
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    name: str,
    arguments: dict[str, str],
    told: tuple[str, ...],
):
    async with Client(create_server(settings), mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, arguments)
    assert caught.value.code == INVALID_PARAMS
    assert all(part in caught.value.message for part in told)
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]
