"""Every call to a model goes through LiteLLM, and this is the only module that imports it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agents import copilot
from agents.client import (
    AttemptFailed,
    Completion,
    CompletionRequest,
    Delta,
    Usage,
)
from agents.translation import (
    chat_arguments,
    chat_completion,
    cost_of,
    responses_arguments,
    responses_completion,
    responses_piece,
    served_model,
    usage_of,
)
from agents.vendor_errors import attempt_failure, redacted
from engine.errors import LabError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import ModuleType

    from agents.providers import Agent
    from agents.settings import AgentSettings
    from engine.ports import Clock

# Read by LiteLLM while it is imported. Without the first two it fetches price lists from the network, blocking; without
# the third it reads any .env file above its own folder.
_IMPORT_FLAGS = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
}
_MILLISECONDS = 1_000.0


class _Library:
    """LiteLLM, imported once per process, off the event loop: it takes seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._module: ModuleType | None = None
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def warm_up(self) -> None:
        """Begin the import unless it has begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._import, name="import-litellm", daemon=True)
                self._thread.start()

    async def ready(self) -> Any:
        """Return the module as soon as it is there."""
        if not self._done.is_set():
            self.warm_up()
            await asyncio.to_thread(self._done.wait)
        if self._module is None:
            raise AttemptFailed("bad_request", "LiteLLM cannot be imported") from self._failure
        return self._module

    @property
    def is_ready(self) -> bool:
        """Return whether a call would not have to wait for the import."""
        return self._done.is_set()

    def _import(self) -> None:
        try:
            # The one library that takes its settings from the environment only; they are set for it here.
            for name, value in _IMPORT_FLAGS.items():
                os.environ[name] = value  # noqa: TID251
            import litellm

            _quieten(litellm)
            asyncio.run(_exercise(litellm))
            self._module = litellm
        except BaseException as error:  # noqa: BLE001  kept and raised for whoever waits
            self._failure = error
        finally:
            self._done.set()


def _quieten(litellm: Any) -> None:
    # Banners on stdout, which is protocol.
    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    litellm.telemetry = False
    # System messages stay what they are.
    litellm.disable_copilot_system_to_assistant = True
    # One HTTP stack for all vendors, closed as a whole.
    litellm.disable_aiohttp_transport = True
    # What it does wrong with other libraries is nothing that our users can mend.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="litellm")
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    warnings.filterwarnings("ignore", message=r"Items? '.*' on TypedDict class", category=UserWarning)
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def _exercise(litellm: Any) -> None:
    """Ask once along every route, at a port that refuses: LiteLLM imports more at the first call, which would stop the
    event loop for seconds.
    """  # noqa: D205
    with socket.socket() as nobody:
        # Bound but not listening, so that nobody else can answer there.
        nobody.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        options = {"api_base": base, "api_key": "none", "timeout": 5, "max_retries": 0, "num_retries": 0}
        for model in ("deepseek/deepseek-flash", "openai/none"):
            with suppress(Exception):
                await litellm.acompletion(model=model, messages=[{"role": "user", "content": ""}], **options)
        with suppress(Exception):
            await litellm.aresponses(model="perplexity/preset/low", input="", **options)
    await _let_go(litellm)


async def _let_go(litellm: Any) -> None:
    """Close the connections of the running event loop and stop LiteLLM's worker in it."""
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
    worker = _logging_worker()
    with suppress(asyncio.CancelledError):
        await worker.flush()
        await worker.stop()


_LIBRARY = _Library()


def warm_up() -> None:
    """Begin importing LiteLLM in a thread of its own; costs the caller nothing."""
    _LIBRARY.warm_up()


async def ready() -> None:
    """Wait until LiteLLM is imported."""
    await _LIBRARY.ready()


def is_ready() -> bool:
    """Return whether LiteLLM is imported."""
    return _LIBRARY.is_ready


class LiteLLMClient:
    """Asks agents through LiteLLM: one request on the wire for each call, no retry, a total deadline.

    Parameters
    ----------
    settings : AgentSettings
        Keys are passed with every call; LiteLLM finds none in the environment on its own.
    clock : Clock
        Whose `monotonic` deadlines are times of.
    """

    def __init__(self, settings: AgentSettings, clock: Clock) -> None:
        self._clock = clock
        self._secrets = settings.secrets()
        self._copilot_folder = settings.copilot_token_folder
        self._connection: Any = None

    async def ready(self) -> None:
        """Wait until LiteLLM is imported."""
        await _LIBRARY.ready()

    async def complete(self, request: CompletionRequest, deadline: float) -> Completion:
        """Return the whole answer."""
        agent = request.agent
        async with self._guarded(deadline):
            library = await self._prepared(agent)
            timeout_s = self._seconds_until(deadline)
            if agent.vendor == "perplexity":
                answer = await library.aresponses(**responses_arguments(request, timeout_s), client=self._connection)
                return responses_completion(agent, answer)
            answer = await library.acompletion(**chat_arguments(request, timeout_s), **self._own_connection(agent))
            return chat_completion(agent, answer)

    async def stream(self, request: CompletionRequest, deadline: float) -> AsyncGenerator[Delta | Completion]:
        """Yield pieces as they come, and the whole answer last."""
        agent = request.agent
        started = self._clock.monotonic()
        async with self._guarded(deadline):
            library = await self._prepared(agent)
        timeout_s = self._seconds_until(deadline)
        pieces = (
            _stream_responses(library, request, timeout_s, self._connection)
            if agent.vendor == "perplexity"
            else _stream_chat(library, request, timeout_s, self._own_connection(agent))
        )
        first_token_ms: float | None = None
        async with aclosing(pieces):
            while True:
                # The guard must not reach over a yield: its timeout would cancel the caller instead of the call.
                async with self._guarded(deadline):
                    piece = await anext(pieces, None)
                if first_token_ms is None:
                    first_token_ms = (self._clock.monotonic() - started) * _MILLISECONDS
                if isinstance(piece, Completion):
                    yield replace(piece, first_token_ms=first_token_ms)
                    return
                if piece is None:
                    raise AttemptFailed("cut_stream", "the stream ended without its end")
                yield piece

    async def close(self) -> None:
        """Close LiteLLM's connections and stop its worker; both belong to the running event loop."""
        if not _LIBRARY.is_ready:
            return
        library = await _LIBRARY.ready()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        await _let_go(library)

    def _seconds_until(self, deadline: float) -> float:
        return max(0.001, deadline - self._clock.monotonic())

    @asynccontextmanager
    async def _guarded(self, deadline: float) -> AsyncGenerator[None]:
        """Hold the total deadline around a call and turn whatever fails into `AttemptFailed`."""
        try:
            async with asyncio.timeout(self._seconds_until(deadline)):
                yield
        except AttemptFailed:
            raise
        except TimeoutError as error:
            raise AttemptFailed("timeout", "no complete answer before the deadline") from error
        except Exception as error:
            raise attempt_failure(error, self._secrets) from error

    async def _prepared(self, agent: Agent) -> Any:
        """Return the library when everything for a call to this agent is there."""
        library = await _LIBRARY.ready()
        if agent.vendor == "copilot":
            await self._prepare_copilot()
        elif not agent.api_key:
            # LiteLLM would send the request with an empty key.
            raise AttemptFailed("missing_key", agent.unusable_because)
        if agent.vendor == "perplexity":
            # Otherwise LiteLLM asks for the whole answer and cuts it into pieces afterwards.
            library.register_model(
                {
                    agent.model: {
                        "litellm_provider": "perplexity",
                        "mode": "responses",
                        "supports_native_streaming": True,
                    }
                }
            )
        if self._connection is None:
            self._connection = _one_request_connection()
        return library

    def _own_connection(self, agent: Agent) -> dict[str, Any]:
        # The other vendors go through OpenAI's client, which obeys `max_retries`.
        return {"client": self._connection} if agent.vendor == "deepseek" else {}

    async def _prepare_copilot(self) -> None:
        """Renew the key ourselves: LiteLLM would block the event loop and leave the file readable by others."""
        folder = self._copilot_folder
        if folder is None:
            raise AttemptFailed("missing_key", "no folder for Copilot's tokens")
        os.environ["GITHUB_COPILOT_TOKEN_DIR"] = str(folder)  # noqa: TID251  LiteLLM takes it from nowhere else
        try:
            await asyncio.to_thread(copilot.renew_key, folder, self._clock.now_ms() / _MILLISECONDS)
        except LabError as error:
            kind = "server" if error.retryable else "authentication"
            raise AttemptFailed(kind, redacted(error.message, self._secrets)) from error


async def _stream_chat(
    library: Any, request: CompletionRequest, timeout_s: float, connection: Mapping[str, Any]
) -> AsyncGenerator[Delta | Completion]:
    arguments = {**chat_arguments(request, timeout_s), **connection}
    stream = await library.acompletion(**arguments, stream=True, stream_options={"include_usage": True})
    texts: list[str] = []
    usage = Usage()
    served = ""
    try:
        async for chunk in stream:
            served = served_model(request.agent, chunk) or served
            if (counted := getattr(chunk, "usage", None)) is not None:
                usage = usage_of(counted)
            delta = chunk.choices[0].delta if chunk.choices else None
            if reasoning := getattr(delta, "reasoning_content", None):
                yield Delta(str(reasoning), is_reasoning=True)
            if text := getattr(delta, "content", None):
                texts.append(str(text))
                yield Delta(str(text))
    except AttemptFailed:
        raise
    except Exception as error:
        raise _broken_stream(error) from error
    # LiteLLM closes a stream that just stops with a finish of its own making; only the vendor's own counts.
    if getattr(stream, "received_finish_reason", "stop") is None:
        raise AttemptFailed("cut_stream", "the stream ended without its end")
    cost_usd, source = cost_of(request.agent, usage, None)
    yield Completion("".join(texts), served, usage, cost_usd, source)


async def _stream_responses(
    library: Any, request: CompletionRequest, timeout_s: float, connection: Any
) -> AsyncGenerator[Delta | Completion]:
    stream = await library.aresponses(**responses_arguments(request, timeout_s), stream=True, client=connection)
    try:
        async for event in stream:
            piece = responses_piece(event, request.agent)
            if piece is not None:
                yield piece
            if isinstance(piece, Completion):
                return
    except AttemptFailed:
        raise
    except Exception as error:
        raise _broken_stream(error) from error
    raise AttemptFailed("cut_stream", "the stream ended without its end")


def _broken_stream(error: Exception) -> AttemptFailed:
    failure = attempt_failure(error, ())
    if failure.kind in {"timeout", "rate_limited", "overloaded"}:
        return failure
    return AttemptFailed("cut_stream", failure.detail, status=failure.status)


def _one_request_connection() -> Any:
    """Return a connection of LiteLLM's that sends a request once and refuses streams with unreadable lines.

    LiteLLM's own sends a request again, without telling, when the connection breaks after the vendor has begun to work,
    and leaves out pieces of a stream that it cannot read.
    """
    # LiteLLM must be imported by now; a name at the top would import it with this module.
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    class OneRequestHandler(AsyncHTTPHandler):
        async def single_connection_post_request(self, *_arguments: Any, **_options: Any) -> Any:
            raise

        async def post(self, *arguments: Any, **options: Any) -> Any:
            response: Any = await super().post(*arguments, **options)
            if options.get("stream"):
                lines = response.aiter_lines
                response.aiter_lines = lambda: _readable_lines(lines())
            return response

    return OneRequestHandler(follow_redirects=False)


async def _readable_lines(lines: AsyncIterator[str]) -> AsyncGenerator[str]:
    async for line in lines:
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data != "[DONE]":
            try:
                json.loads(data)
            except ValueError as error:
                raise AttemptFailed("bad_payload", "a piece of the stream cannot be read") from error
        yield line


def _logging_worker() -> Any:
    # LiteLLM must be imported by now; a name at the top would import it with this module.
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    return GLOBAL_LOGGING_WORKER
