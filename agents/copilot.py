"""GitHub Copilot's tokens: the login for people (device flow), private files, and renewal before a call."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2

from engine.errors import BadPayload, LabError, Refused, Unavailable, Unreachable

# The client id and scope of the editors' own device flow, as LiteLLM uses them.
_CLIENT_ID = "Iv1.b507a08c87ecfe98"
_SCOPE = "read:user"
_ACCESS_FILE = "access-token"
_KEY_FILE = "api-key.json"
_MODEL_FILE = "model.json"
_TIMEOUT_S = 20.0
# A key that ends within this time is renewed, so that it outlives the call it is fetched for.
_RENEWAL_MARGIN_S = 120.0
_HEADERS = {
    "accept": "application/json",
    "editor-version": "vscode/1.95.0",
    "editor-plugin-version": "copilot-chat/0.26.7",
    "user-agent": "GitHubCopilotChat/0.26.7",
}


@dataclass(frozen=True, slots=True)
class CopilotAddresses:
    """Where the device flow happens; tests point it at this machine."""

    device_code_url: str = "https://github.com/login/device/code"
    access_token_url: str = "https://github.com/login/oauth/access_token"  # noqa: S105  an address, not a secret
    api_key_url: str = "https://api.github.com/copilot_internal/v2/token"


@dataclass(frozen=True, slots=True)
class CopilotLogin:
    """What a login led to."""

    model: str
    models: tuple[str, ...]


def is_logged_in(folder: Path) -> bool:
    """Return whether a login has left a token here."""
    return _read(folder / _ACCESS_FILE).strip() != ""


def chosen_model(folder: Path) -> str | None:
    """Return the model picked from the account's own list at login."""
    with suppress(ValueError):
        document = cast("dict[str, Any]", json.loads(_read(folder / _MODEL_FILE) or "{}"))
        return document.get("model") or None
    return None


def login(
    folder: Path,
    show: Callable[[str], None],
    *,
    addresses: CopilotAddresses | None = None,
    api_base: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> CopilotLogin:
    """Log in by device code, from a command line: blocks until the person has typed the code in a browser.

    Parameters
    ----------
    folder : Path
        Where the tokens are kept, readable by this user only.
    show : callable
        Shows a line to the person.
    addresses : CopilotAddresses, optional
        GitHub's when left out.
    api_base : str, optional
        Address of the models; the one that GitHub names when left out.
    sleep : callable
        Waits between two looks.
    """
    addresses = addresses or CopilotAddresses()
    with _errors_in_our_words(), httpx2.Client(timeout=_TIMEOUT_S, headers=_HEADERS) as client:
        token = _device_flow(client, addresses, show, sleep)
        _write_private(folder, _ACCESS_FILE, token)
        key = _fetch_key(client, addresses, token)
        _write_private(folder, _KEY_FILE, json.dumps(key))
        models = _models(client, key, api_base)
    if not models:
        raise Refused("this account offers no model for chat", fix="check the Copilot subscription of the account")
    _write_private(folder, _MODEL_FILE, json.dumps({"model": models[0], "models": models}))
    return CopilotLogin(models[0], tuple(models))


def renew_key(folder: Path, now_s: float, *, addresses: CopilotAddresses | None = None) -> None:
    """Fetch a new key when the stored one is about to end; the file stays readable by this user only."""
    if _ends_at_s(folder) > now_s + _RENEWAL_MARGIN_S:
        return
    token = _read(folder / _ACCESS_FILE).strip()
    if not token:
        raise Refused("nobody is logged in to Copilot", fix="run `bst login copilot`")
    with _errors_in_our_words(), httpx2.Client(timeout=_TIMEOUT_S, headers=_HEADERS) as client:
        key = _fetch_key(client, addresses or CopilotAddresses(), token)
    _write_private(folder, _KEY_FILE, json.dumps(key))


def _device_flow(
    client: httpx2.Client, addresses: CopilotAddresses, show: Callable[[str], None], sleep: Callable[[float], None]
) -> str:
    device = _json(client.post(addresses.device_code_url, json={"client_id": _CLIENT_ID, "scope": _SCOPE}))
    show(f"Open {device['verification_uri']} and enter the code {device['user_code']}")
    pause_s = float(device.get("interval", 5))
    waited_s = 0.0
    ask = {
        "client_id": _CLIENT_ID,
        "device_code": device["device_code"],
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    }
    while waited_s < float(device.get("expires_in", 900)):
        sleep(pause_s)
        waited_s += pause_s
        answer = _json(client.post(addresses.access_token_url, json=ask))
        if token := answer.get("access_token"):
            return str(token)
        if answer.get("error") == "slow_down":
            pause_s += 5
        elif answer.get("error") != "authorization_pending":
            raise Refused(f"the login was refused ({answer.get('error')})", fix="run `bst login copilot` again")
    raise Refused("the code was not entered in time", fix="run `bst login copilot` again")


def _fetch_key(client: httpx2.Client, addresses: CopilotAddresses, token: str) -> Mapping[str, Any]:
    answer = client.get(addresses.api_key_url, headers={"authorization": f"token {token}"})
    if answer.status_code in {401, 403, 404}:
        raise Refused(
            f"GitHub gives this account no Copilot key (HTTP {answer.status_code})",
            fix="check the subscription, then run `bst login copilot`",
        )
    key = _json(answer)
    if "token" not in key:
        raise BadPayload("GitHub's answer holds no Copilot key", fix="try again later")
    return key


def _models(client: httpx2.Client, key: Mapping[str, Any], api_base: str | None) -> list[str]:
    """Return the chat models of the account, those the account's editor would offer first."""
    endpoints = cast("Mapping[str, Any]", key.get("endpoints") or {})
    base = (api_base or str(endpoints.get("api") or "https://api.githubcopilot.com")).rstrip("/")
    headers = {"authorization": f"Bearer {key['token']}", "copilot-integration-id": "vscode-chat"}
    listed = cast("list[dict[str, Any]]", _json(client.get(f"{base}/models", headers=headers)).get("data", []))
    offered = sorted(listed, key=lambda model: not model.get("model_picker_enabled", False))
    return [str(model["id"]) for model in offered if _speaks_chat(model)]


def _speaks_chat(model: Mapping[str, Any]) -> bool:
    endpoints = model.get("supported_endpoints")
    kind = cast("Mapping[str, Any]", model.get("capabilities") or {}).get("type", "chat")
    return kind == "chat" and (endpoints is None or "/chat/completions" in endpoints)


def _ends_at_s(folder: Path) -> float:
    with suppress(ValueError, TypeError):
        return float(cast("dict[str, Any]", json.loads(_read(folder / _KEY_FILE) or "{}")).get("expires_at", 0))
    return 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _write_private(folder: Path, name: str, text: str) -> None:
    """Write a file that was never readable by anybody else, not even for a moment."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    # Made with mode 0600, and put in place whole.
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(folder / name)


def _json(answer: httpx2.Response) -> dict[str, Any]:
    answer.raise_for_status()
    document = answer.json()
    if not isinstance(document, dict):
        raise BadPayload("GitHub's answer is not an object", fix="try again later")
    return cast("dict[str, Any]", document)


class _errors_in_our_words:  # noqa: N801  used like a function
    """Turn failures of the connection into ours."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Map what was raised inside."""
        raise_from = _translated(error)
        if raise_from is not None:
            raise raise_from from error


def _translated(error: BaseException | None) -> LabError | None:
    if isinstance(error, httpx2.HTTPStatusError):
        return Unavailable(f"GitHub answered HTTP {error.response.status_code}", fix="try again later")
    if isinstance(error, httpx2.ConnectError):
        return Unreachable("GitHub cannot be reached", fix="check the network")
    if isinstance(error, httpx2.HTTPError):
        return Unavailable("the connection to GitHub broke", fix="try again")
    if isinstance(error, ValueError | KeyError):
        return BadPayload("GitHub's answer cannot be read", fix="try again later")
    return None
