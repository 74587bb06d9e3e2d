import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from engine.errors import BadRequest
from server.settings import Settings
from server.transports import host_names, is_loopback, serve_http

ROOT = Path(__file__).parent.parent.parent
TOKEN = "a-long-random-token"
PATIENCE_S = 120
BODY = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@contextmanager
def serving(home: Path, **more: str) -> Generator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--http", "--port", "0", "--feed", "simulated"],
        env={**os.environ, "BST_HOME": str(home), "PYTHONPATH": str(ROOT), **more},
        cwd=home.parent,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield found.group()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with serving(tmp_path_factory.mktemp("open") / "home") as url:
        yield url


@pytest.fixture(scope="module")
def locked_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with serving(tmp_path_factory.mktemp("locked") / "home", BST_HTTP_TOKEN=TOKEN) as url:
        yield url


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_real_client_lists_and_calls_over_http(open_server: str, mode: str):
    async with Client(open_server, mode=mode) as client:
        assert (await client.list_tools()).tools
        result = await client.call_tool("list_strategies", {"limit": 1})
    assert result.structured_content["total"] >= 1


def post(url: str, **headers: str) -> httpx2.Response:
    return httpx2.post(url, content=json.dumps(BODY), headers={**HEADERS, **headers}, timeout=PATIENCE_S)


def test_a_foreign_host_header_is_misdirected(open_server: str):
    assert post(open_server, Host="attacker.example").status_code == 421


def test_a_foreign_origin_is_forbidden(open_server: str):
    assert post(open_server, Origin="http://attacker.example").status_code == 403


def test_a_name_that_only_begins_like_ours_is_misdirected(open_server: str):
    assert post(open_server, Host="localhost.attacker.example:80").status_code == 421


def test_a_body_over_the_limit_is_refused(open_server: str):
    response = httpx2.post(open_server, content=b" " * (4 * 1024 * 1024 + 1), headers=HEADERS, timeout=PATIENCE_S)
    assert response.status_code == 413


def test_the_live_route_answers_without_a_token_and_tells_nothing(locked_server: str):
    response = httpx2.get(locked_server.replace("/mcp", "/health/live"), timeout=PATIENCE_S)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    assert "server" not in response.headers


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_without_the_token_nothing_is_served(locked_server: str, given: str):
    response = post(locked_server, **({"Authorization": given} if given else {}))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in response.text


async def test_with_the_token_a_real_client_is_served(locked_server: str):
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S) as http,
        Client(streamable_http_client(locked_server, http_client=http)) as client,
    ):
        assert (await client.list_tools()).tools


async def test_many_clients_share_one_lab(open_server: str):
    async def ask() -> str:
        async with Client(open_server) as client:
            return (await client.call_tool("health_check", {})).structured_content["status"]

    assert set(await asyncio.gather(*(ask() for _ in range(4)))) == {"ok"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_an_address_others_can_reach_needs_a_token(settings: Settings, host: str):
    with pytest.raises(BadRequest, match="other machines") as refused:
        serve_http(settings, host, 0)
    assert "BST_HTTP_TOKEN" in refused.value.fix


def test_a_port_that_is_taken_is_told(settings: Settings, open_server: str):
    port = int(re.search(r":(\d+)/", open_server).group(1))
    with pytest.raises(BadRequest, match=f"port {port}"):
        serve_http(settings, "127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "localhost", "::1", "[::1]"])
def test_loopback_addresses_need_none(host: str):
    assert is_loopback(host)


def test_the_names_of_a_server_are_loopback_its_own_address_and_those_given():
    assert host_names("192.168.1.5", ["box.lan"]) == ["127.0.0.1", "localhost", "[::1]", "box.lan", "192.168.1.5"]
    assert host_names("127.0.0.1") == ["127.0.0.1", "localhost", "[::1]"]
