import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.client import Client

from server.mcp_app import create_server
from server.settings import Settings
from tools.catalog import all_tools

_spec = importlib.util.spec_from_file_location("fuzzing", Path(__file__).with_name("fuzzing.py"))
assert _spec is not None
assert _spec.loader is not None
fuzzing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzzing)

ERROR_KEYS = {"code", "message", "fix", "retryable", "retry_after_s"}
NOISE = ("Traceback", "pydantic", "site-packages", "object at 0x", "errors.pydantic.dev")
EXAMPLES = 300


class Fuzzer:
    """A client in an event loop of its own, as hypothesis calls synchronously."""

    def __init__(self, home: Path) -> None:
        self.runner = asyncio.Runner()
        self.client = Client(create_server(Settings.model_validate({"home": home, "feed": "simulated"})))
        self.runner.run(self.client.__aenter__())
        listed = self.runner.run(self.client.list_tools()).tools
        self.tools: dict[str, dict[str, Any]] = {each.name: each.input_schema["properties"] for each in listed}

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.runner.run(asyncio.wait_for(self.client.call_tool(name, arguments), 45))

    def close(self) -> None:
        self.runner.run(self.client.__aexit__(None, None, None))
        self.runner.close()


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory):
    opened = Fuzzer(tmp_path_factory.mktemp("fuzz"))
    yield opened
    opened.close()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_call_crashes_a_tool_or_gets_another_librarys_text(fuzzer: Fuzzer, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(fuzzer.tools)))
    arguments = data.draw(fuzzing.calls(fuzzer.tools[name]))
    result = fuzzer.call(name, arguments)
    if result.is_error:
        told = result.structured_content
        assert set(told) == ERROR_KEYS
        assert told["code"] != "internal", (name, arguments)
        assert told["message"]
        assert not [noise for noise in NOISE if noise in told["message"] + told["fix"]], told


def test_every_tool_is_fuzzed(fuzzer: Fuzzer):
    assert fuzzer.tools.keys() == {tool.name for tool in all_tools()}
    assert "fuzzing" not in sys.modules
