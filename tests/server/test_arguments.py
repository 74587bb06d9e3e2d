"""What callers send: null is left out, JSON inside strings is read, and refusals name the level that failed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from mcp.client import Client

from engine.core.run_settings import RunSettings
from server.mcp_app import create_server, to_sdk_tool
from server.settings import Settings
from tools.arguments import Bar, Code
from tools.catalog import all_tools
from tools.declare import tool

TOOLS = {each.name: each for each in all_tools()}
RUN: dict[str, Any] = {"strategy": "ema_cross", "symbol": "BTCUSDT", "start": "2024-01-01", "end": "2024-01-08"}


def read(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return to_sdk_tool(TOOLS[name]).fn_metadata.validate_arguments(arguments)


@pytest.fixture
def refusal(settings: Settings):
    async def ask(name: str, arguments: dict[str, Any]) -> tuple[str, str]:
        async with Client(create_server(settings)) as client:
            result = await client.call_tool(name, arguments)
        assert result.is_error
        assert result.structured_content["code"] == "bad_request"
        return result.structured_content["message"], result.structured_content["fix"]

    return ask


@pytest.mark.parametrize("name", TOOLS)
def test_null_is_the_same_as_leaving_an_optional_argument_out(name: str) -> None:
    mounted = to_sdk_tool(TOOLS[name])
    required = set(mounted.parameters.get("required", ()))
    samples = {
        "symbol": "BTCUSDT", "interval": "60", "run_id": "run_0123456789ab", "job_id": "job_0123456789ab",
        "document": {"name": "x"}, "strategy": "ema_cross", "name": "ema_cross", "kind": "funding", "what": "exports",
        "grid": {"fast": [5]}, "space": {"fast": [5]}, "search": {"grid": {"fast": [5]}},
        "run_ids": ["run_0123456789ab", "run_0123456789ac"], "input": {"code": "x"}, "answer": "x", "prompt": "x",
        "submission_id": "sub_0123456789abcdef",
    }  # fmt: skip
    if name == "run_pipeline":
        samples["name"] = "code-review"
    given = {each: samples.get(each, "2024-01-01") for each in required}
    nulls = dict.fromkeys(set(mounted.parameters.get("properties", {})) - required)
    validate = mounted.fn_metadata.validate_arguments
    assert validate({**given, **nulls}) == validate(given)


def test_null_is_left_out_inside_settings_too() -> None:
    given = {"settings": {"capital": None, "leverage": 3, "size": {"quote": 100, "quantity": None}}}
    expected = RunSettings.model_validate({"leverage": 3, "size": {"quote": 100}})
    assert read("run_backtest", RUN | given)["settings"] == expected


async def test_null_for_a_required_argument_is_refused(refusal: Any) -> None:
    message, _ = await refusal("run_backtest", RUN | {"start": None})
    assert message == "start: must be a string, found null"


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"capital": True}, "settings.capital: must be a number, found true"),
        ({"funding": "yes"}, 'settings.funding: must be true or false, found "yes"'),
        ({"funding": 1}, "settings.funding: must be true or false, found 1"),
        ({"size": {"quote": False}}, "settings.size.quote: must be a number, found false"),
    ],
)
async def test_truth_values_are_no_numbers_and_words_no_truth_values(
    refusal: Any, costs: dict[str, Any], message: str
) -> None:
    assert (await refusal("run_backtest", RUN | {"settings": costs}))[0] == message


@pytest.mark.parametrize("limit", [True, 2.5, "many", "true"])
async def test_a_count_is_a_whole_number(refusal: Any, limit: object) -> None:
    message, _ = await refusal("search_instruments", {"limit": limit})
    assert message.startswith("limit: must be a whole number, found ")


def test_whole_numbers_do_for_figures_and_json_in_strings_is_read() -> None:
    found = read(
        "run_backtest",
        RUN
        | {"params": '{"fast": 8, "slow": "21"}', "settings": '{"capital": 500, "funding": "false", "leverage": "2"}'},
    )
    assert found["params"] == {"fast": 8.0, "slow": 21.0}
    assert found["settings"] == RunSettings.model_validate({"capital": 500, "funding": False, "leverage": 2})
    assert read("search_instruments", {"limit": "40"})["limit"] == read("search_instruments", {"limit": 40.0})["limit"]
    assert read("get_mtf_candles", {"symbol": "BTCUSDT", "aligned": "false"})["aligned"] is False


@pytest.mark.parametrize(
    ("given", "code"), [("15m", "15"), (15, "15"), ("1h", "60"), ("4h", "240"), ("1d", "D"), ("W", "W")]
)
def test_intervals_are_understood_as_people_write_them(given: object, code: str) -> None:
    assert read("run_backtest", RUN | {"interval": given})["interval"] == code
    assert read("get_mtf_candles", {"symbol": "BTCUSDT", "intervals": [given]})["intervals"] == [code]


def test_a_sampling_interval_is_understood_the_same_way() -> None:
    given = {"symbol": "BTCUSDT", "kind": "funding", "start": "2024-01-01", "end": "2024-01-02", "interval": "4h"}
    assert read("get_derivatives_history", given)["interval"] == "240"


def test_the_codes_of_the_exchange_are_told_in_words() -> None:
    @tool("reads")
    async def show(interval: Bar, intervals: Annotated[list[Code], "several"]) -> None:
        """Show."""

    shown = to_sdk_tool(show).parameters["properties"]
    assert shown["interval"] == {"type": "string", "description": "Minutes, or D W M"}
    assert "told" not in json.dumps(shown)


async def test_an_unknown_setting_is_told_with_the_names_of_the_settings(refusal: Any) -> None:
    message, fix = await refusal("run_backtest", RUN | {"settings": {"leverge": 2}})
    assert message == "settings.leverge: unknown argument, did you mean 'leverage'?"
    assert fix.startswith("settings takes: capital, ")
    assert "symbol" not in fix


async def test_an_unknown_way_to_size_is_told_with_the_ways(refusal: Any) -> None:
    _, fix = await refusal("run_backtest", RUN | {"settings": {"size": {"percent": 5}}})
    assert fix == "settings.size takes: equity_fraction, quote, quantity, risk_percent"


async def test_faults_of_two_levels_are_told_with_the_names_of_both(refusal: Any) -> None:
    _, fix = await refusal("run_backtest", RUN | {"settings": {"x": 1}, "colour": 2})
    assert "settings takes: capital" in fix
    assert "this tool takes: strategy" in fix


@pytest.mark.parametrize("given", [5, "fast", [1]])
async def test_a_wrong_kind_is_told_in_the_words_of_json(refusal: Any, given: object) -> None:
    message, _ = await refusal("run_backtest", RUN | {"settings": given})
    assert message.startswith("settings: must be an object with capital, ")
    assert not any(word in message for word in ("dictionary", "instance", "RunSettings"))


async def test_each_alternative_of_an_argument_is_named(refusal: Any) -> None:
    message, _ = await refusal("run_backtest", RUN | {"strategy": 5})
    assert message == "strategy: must be a string or an object, found 5"


async def test_what_was_found_is_said_once(refusal: Any) -> None:
    message, _ = await refusal("run_backtest", RUN | {"settings": {"size": {}}})
    assert message.count("found") == 1


@pytest.mark.parametrize("name", ["str", "a-b", "dict[str,any]", ""])
async def test_an_unknown_argument_of_any_name_is_refused(refusal: Any, name: str) -> None:
    message, fix = await refusal("cache_stats", {name: 1})
    assert message == f"{name or 'arguments'}: unknown argument"
    assert fix == "this tool takes: no arguments"
