"""The login for people and the renewal of keys, against a server on this machine that plays GitHub."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents import copilot
from agents.copilot import CopilotAddresses
from agents.providers import agents_of
from agents.questions import AskRequest
from agents.settings import AgentSettings
from engine.errors import Refused, Unavailable, Unreachable


@dataclass
class GitHub:
    """What GitHub will say, and what it was asked."""

    url: str = ""
    polls: list[dict[str, Any]] = field(default_factory=list)
    key: tuple[int, dict[str, Any]] = (200, {})
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def addresses(self) -> CopilotAddresses:
        return CopilotAddresses(f"{self.url}/device", f"{self.url}/token", f"{self.url}/key")

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        self.seen.append((path, headers))
        models = [
            {"id": "hidden", "model_picker_enabled": False, "capabilities": {"type": "chat"}},
            {"id": "responses-only", "model_picker_enabled": True, "supported_endpoints": ["/responses"]},
            {"id": "shown", "model_picker_enabled": True, "supported_endpoints": ["/chat/completions"]},
            {"id": "vectors", "capabilities": {"type": "embeddings"}},
        ]
        match path:
            case "/device":
                return 200, {
                    "device_code": "d",
                    "user_code": "ABCD-1234",
                    "verification_uri": "https://github.com/login/device",
                    "interval": 5,
                    "expires_in": 60,
                }
            case "/token":
                return 200, self.polls.pop(0)
            case "/key":
                return self.key
            case _:
                return 200, {"data": models}  # fmt: skip


@pytest.fixture
def github() -> Iterator[GitHub]:
    played = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, document = played.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _reply  # noqa: N815  the names that http.server calls

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.url = f"http://127.0.0.1:{server.server_port}"
    played.key = (200, {"token": "jwt-1", "expires_at": 5_000, "endpoints": {"api": f"{played.url}/api"}})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield played
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_login_shows_the_code_waits_and_keeps_private_files(github, tmp_path):
    folder = tmp_path / "tokens"
    github.polls = [{"error": "authorization_pending"}, {"error": "slow_down"}, {"access_token": "gho_secret"}]
    shown: list[str] = []
    waited: list[float] = []
    login = copilot.login(folder, shown.append, addresses=github.addresses, sleep=waited.append)
    assert shown == ["Open https://github.com/login/device and enter the code ABCD-1234"]
    assert waited == [5.0, 5.0, 10.0]
    assert (login.model, login.models) == ("shown", ("shown", "hidden"))
    assert copilot.is_logged_in(folder)
    assert copilot.chosen_model(folder) == "shown"
    assert sorted(path.name for path in folder.iterdir()) == ["access-token", "api-key.json", "model.json"]
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert dict(github.seen)["/key"]["authorization"] == "token gho_secret"


@pytest.mark.parametrize("answer", [{"error": "access_denied"}, {"error": "expired_token"}])
def test_a_refused_login_leaves_nothing(github, tmp_path, answer):
    github.polls = [answer]
    with pytest.raises(Refused):
        copilot.login(tmp_path / "tokens", lambda _: None, addresses=github.addresses, sleep=lambda _: None)
    assert not copilot.is_logged_in(tmp_path / "tokens")


def test_a_code_that_nobody_enters_ends_the_login(github, tmp_path):
    github.polls = [{"error": "authorization_pending"}] * 50
    with pytest.raises(Refused, match="in time"):
        copilot.login(tmp_path, lambda _: None, addresses=github.addresses, sleep=lambda _: None)


def test_a_key_is_renewed_only_when_it_is_about_to_end(github, tmp_path):
    with pytest.raises(Refused, match="logged in"):
        copilot.renew_key(tmp_path, 0, addresses=github.addresses)
    (tmp_path / "access-token").write_text("gho_x", encoding="utf-8")
    copilot.renew_key(tmp_path, 1_000, addresses=github.addresses)
    copilot.renew_key(tmp_path, 4_800, addresses=github.addresses)
    assert [path for path, _ in github.seen] == ["/key"]
    copilot.renew_key(tmp_path, 4_900, addresses=github.addresses)
    assert len(github.seen) == 2
    github.key = (403, {})
    with pytest.raises(Refused, match="403"):
        copilot.renew_key(tmp_path, 9_000, addresses=github.addresses)
    github.key = (502, {})
    with pytest.raises(Unavailable):
        copilot.renew_key(tmp_path, 9_000, addresses=github.addresses)
    with pytest.raises(Unreachable):
        copilot.renew_key(tmp_path, 9_000, addresses=CopilotAddresses(api_key_url="http://127.0.0.1:1/key"))


def test_copilot_is_used_only_when_switched_on_and_logged_in(tmp_path):
    def reason(**changes: Any) -> str:
        return agents_of(AgentSettings(**changes))["copilot"].unusable_because

    assert "switched off" in reason(copilot_token_folder=tmp_path)
    assert "bst login copilot" in reason(is_copilot_enabled=True, copilot_token_folder=tmp_path)
    logged_in(tmp_path)
    assert reason(is_copilot_enabled=True, copilot_token_folder=tmp_path) == ""
    assert "terms" in agents_of(AgentSettings())["copilot"].notice


def logged_in(folder: Path) -> None:
    (folder / "access-token").write_text("gho_x", encoding="utf-8")
    key = {"token": "jwt-1", "expires_at": 4_000_000_000, "endpoints": {"api": "http://127.0.0.1:1"}}
    (folder / "api-key.json").write_text(json.dumps(key), encoding="utf-8")
    (folder / "model.json").write_text(json.dumps({"model": "shown"}), encoding="utf-8")


async def test_copilot_answers_last_in_the_chain_with_its_notice(make_router, scripted, tmp_path, monkeypatch):
    # LiteLLM reads the folder from the environment; the client sets it, the test takes it back.
    monkeypatch.setenv("GITHUB_COPILOT_TOKEN_DIR", str(tmp_path))
    logged_in(tmp_path)
    router = make_router(
        deepseek_api_key=None,
        perplexity_api_key=None,
        local_servers=(),
        is_copilot_enabled=True,
        copilot_token_folder=tmp_path,
        copilot_api_base=scripted.base_url("copilot"),
    )
    answer = await router.ask(AskRequest("review this", task="code", brief={"sharpe": 1.5}))
    assert (answer.status, answer.agent, answer.served_model) == ("answered", "copilot", "shown")
    assert "terms" in answer.notes[0]
    entry = scripted.model.log[0]
    assert (entry.path, entry.headers["authorization"]) == ("/copilot/chat/completions", "Bearer jwt-1")
    assert [message["role"] for message in entry.body["messages"]] == ["system", "user"]
