from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.fuzz_client import FuzzClient, connected
from tests.server.fuzzing import calls
from tools.catalog import all_tools

EXAMPLES = 300


@pytest.fixture(scope="module")
def fuzz_client(tmp_path_factory: pytest.TempPathFactory) -> Generator[FuzzClient]:
    with connected(tmp_path_factory.mktemp("fuzz")) as client:
        yield client


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_call_crashes_a_tool_or_gets_another_librarys_text(fuzz_client: FuzzClient, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(fuzz_client.tools)))
    arguments = data.draw(calls(fuzz_client.tools[name]))
    assert fuzz_client.complaint(name, arguments) is None


def test_every_tool_is_fuzzed(fuzz_client: FuzzClient):
    assert fuzz_client.tools.keys() == {tool.name for tool in all_tools()}
