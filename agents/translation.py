"""Between our words and the vendors': arguments of LiteLLM's two calls, and what their answers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from agents.client import AttemptFailed, Completion, CompletionRequest, CostSource, Delta, SearchResult, Usage

if TYPE_CHECKING:
    from agents.providers import Agent


def chat_arguments(request: CompletionRequest, timeout_s: float) -> dict[str, Any]:
    """Return the arguments of `acompletion` for one request."""
    agent = request.agent
    arguments: dict[str, Any] = {
        "model": agent.model,
        "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": request.prompt}],
        "max_tokens": request.max_output_tokens,
        "timeout": timeout_s,
        # Below these two LiteLLM and the client library below it retry on their own, without telling.
        "max_retries": 0,
        "num_retries": 0,
    }
    if agent.base_url:
        arguments["api_base"] = agent.base_url
    if agent.api_key:
        arguments["api_key"] = agent.api_key
    if request.schema is not None:
        arguments["response_format"] = (
            _response_format(request.schema) if agent.sends_schema else {"type": "json_object"}
        )
    if agent.vendor == "deepseek":
        arguments.update(_thinking_arguments(agent))
    return arguments


def responses_arguments(request: CompletionRequest, timeout_s: float) -> dict[str, Any]:
    """Return the arguments of `aresponses` for one request (Perplexity's Agent API)."""
    agent = request.agent
    extra: dict[str, Any] = {}
    if request.schema is not None:
        extra["response_format"] = _response_format(request.schema)
    return {
        "model": agent.model,
        "input": request.prompt,
        "instructions": request.system,
        "max_output_tokens": request.max_output_tokens,
        "timeout": timeout_s,
        "max_retries": 0,
        "num_retries": 0,
        "api_key": agent.api_key,
        **({"api_base": agent.base_url} if agent.base_url else {}),
        **({"extra_body": extra} if extra else {}),
    }


def chat_completion(agent: Agent, answer: Any) -> Completion:
    """Return a chat completion in our words."""
    choices = getattr(answer, "choices", None)
    message = getattr(choices[0], "message", None) if choices else None
    if message is None:
        raise AttemptFailed("bad_payload", "the answer holds no message")
    usage = usage_of(getattr(answer, "usage", None))
    cost_usd, source = cost_of(agent, usage, None)
    return Completion(message.content or "", served_model(agent, answer), usage, cost_usd, source)


def responses_completion(agent: Agent, answer: Any) -> Completion:
    """Return a response object in our words, with its search results."""
    status = getattr(answer, "status", None)
    if status not in {None, "completed"}:
        # A failed run comes with HTTP 200.
        raise AttemptFailed("failed_run", f"the run ended as {status!r}", status=200)
    texts: list[str] = []
    results: list[SearchResult] = []
    for item in getattr(answer, "output", None) or ():
        document = _plain(item)
        if document.get("type") == "search_results":
            results += [_search_result(each) for each in document.get("results") or () if each.get("url")]
        elif document.get("type") == "message":
            parts = cast("list[dict[str, Any]]", document.get("content") or [])
            texts += [str(part.get("text") or "") for part in parts if part.get("type") in {"output_text", "text"}]
    raw_usage = getattr(answer, "usage", None)
    usage = usage_of(raw_usage)
    cost_usd, source = cost_of(agent, usage, _named_cost(raw_usage))
    return Completion("".join(texts), str(getattr(answer, "model", "") or ""), usage, cost_usd, source, tuple(results))


def responses_piece(event: Any, agent: Agent) -> Delta | Completion | None:
    """Return what an event of a streamed response adds: a piece, the whole answer, or nothing."""
    kind = str(getattr(event.type, "value", event.type))
    if kind == "response.output_text.delta":
        return Delta(str(event.delta))
    if kind in {"response.failed", "error", "response.incomplete"}:
        raise AttemptFailed("failed_run", kind, status=200)
    return responses_completion(agent, event.response) if kind == "response.completed" else None


def served_model(agent: Agent, answer: Any) -> str:
    """Return the model as the vendor names it in an answer or a piece of one; empty when it names none.

    LiteLLM writes the model asked for over the one that answered and keeps the latter aside.
    """
    hidden = getattr(answer, "_hidden_params", None) or {}
    named = hidden.get("provider_response_model") if isinstance(hidden, Mapping) else None
    return str(named or "").removeprefix(f"{agent.model.partition('/')[0]}/")


def _thinking_arguments(agent: Agent) -> dict[str, Any]:
    if agent.thinking == "off":
        return {"reasoning_effort": "none"}
    # Efforts other than none are dropped on the way; in the extra body they arrive.
    effort = {} if agent.thinking == "on" else {"extra_body": {"reasoning_effort": agent.thinking}}
    return {"thinking": {"type": "enabled"}, **effort}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    # Our own marks stay at home: strict servers refuse keywords they do not know.
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": _without_marks(schema)}}


def _without_marks(value: Any) -> Any:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {key: _without_marks(each) for key, each in pairs if not key.startswith("x-")}
    if isinstance(value, list):
        return [_without_marks(each) for each in cast("list[Any]", value)]
    return value


def usage_of(raw: Any) -> Usage:
    """Return the tokens of an answer, under either format's names."""
    if raw is None:
        return Usage()
    document = _plain(raw)
    details_out = _plain(document.get("completion_tokens_details") or document.get("output_tokens_details") or {})
    details_in = _plain(document.get("prompt_tokens_details") or document.get("input_tokens_details") or {})
    return Usage(
        tokens_in=int(document.get("prompt_tokens") or document.get("input_tokens") or 0),
        tokens_out=int(document.get("completion_tokens") or document.get("output_tokens") or 0),
        tokens_reasoning=int(details_out.get("reasoning_tokens") or 0),
        tokens_cached=int(details_in.get("cached_tokens") or 0),
    )


def cost_of(agent: Agent, usage: Usage, named_usd: float | None) -> tuple[float, CostSource]:
    """Return what an answer cost and how we know."""
    if named_usd is not None:
        return named_usd, "provider"
    if agent.vendor == "local":
        return 0.0, "none"
    return agent.price.cost_usd(usage.tokens_in, usage.tokens_out, usage.tokens_cached) + agent.fee_usd, "price_list"


def _named_cost(raw_usage: Any) -> float | None:
    cost = getattr(raw_usage, "cost", None)
    if isinstance(cost, Mapping):
        cost = cast("Mapping[str, Any]", cost).get("total_cost")
    return float(cost) if isinstance(cost, int | float) else None


def _search_result(raw: Mapping[str, Any]) -> SearchResult:
    return SearchResult(
        url=str(raw.get("url") or ""),
        title=str(raw.get("title") or ""),
        snippet=str(raw.get("snippet") or ""),
        date=str(raw.get("date") or ""),
    )


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    dump = getattr(value, "model_dump", None)
    return cast("dict[str, Any]", dump()) if dump is not None else {}
