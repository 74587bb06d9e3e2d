"""The two wire formats of model servers: OpenAI chat completions and OpenAI responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Format = Literal["chat", "responses"]
_PIECES = 8


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a client asked, whatever the format."""

    format: Format
    agent: str
    model: str
    prompt: str
    schema: Mapping[str, Any] | None
    is_stream: bool
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model says, before it is put into a format."""

    text: str
    served_model: str
    tokens_in: int
    tokens_out: int
    cost_usd: float | None = None
    search_results: tuple[Mapping[str, Any], ...] = ()
    reasoning: str = ""


def read_request(path: str, body: Mapping[str, Any]) -> ModelRequest:
    """Return what a request body asks; the first part of the path names the agent."""
    parts = [part for part in path.split("/") if part]
    is_chat = path.rstrip("/").endswith("/completions")
    messages = body.get("messages") if is_chat else body.get("input")
    prompt = "\n".join(filter(None, (str(body.get("instructions") or ""), _text_of(messages))))
    return ModelRequest(
        format="chat" if is_chat else "responses",
        agent=parts[0] if len(parts) > 1 else "",
        model=str(body.get("model") or body.get("preset") or ""),
        prompt=prompt,
        schema=_schema_of(body),
        is_stream=bool(body.get("stream")),
        body=body,
    )


def whole_body(request: ModelRequest, reply: ModelReply, number: int) -> bytes:
    """Return a complete answer."""
    document = chat_body(reply, number) if request.format == "chat" else responses_body(reply, number)
    return json.dumps(document).encode()


def chat_body(reply: ModelReply, number: int) -> dict[str, Any]:
    """Return a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": reply.served_model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _chat_usage(reply),
    }


def responses_body(reply: ModelReply, number: int, *, status: str = "completed") -> dict[str, Any]:
    """Return a response object, with the search results as an output item of its own."""
    output: list[dict[str, Any]] = []
    if reply.search_results:
        output.append(
            {"type": "search_results", "queries": [], "results": [dict(each) for each in reply.search_results]}
        )
    output.append(
        {
            "type": "message",
            "id": f"msg_{number}",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": reply.text, "annotations": []}],
        }
    )
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "model": reply.served_model,
        "output": output if status == "completed" else [],
        "usage": _responses_usage(reply),
    }


def failed_run_body(reply: ModelReply, number: int) -> bytes:
    """Return what Perplexity sends with HTTP 200 when a run failed."""
    document = responses_body(reply, number, status="failed")
    return json.dumps({**document, "error": {"message": "the run failed", "type": "run_failed"}}).encode()


def stream_events(request: ModelRequest, reply: ModelReply, number: int) -> Iterator[bytes]:
    """Yield the server-sent events of an answer, the last one closing the stream."""
    events = _chat_events(reply, number) if request.format == "chat" else _responses_events(reply, number)
    for event in events:
        name = f"event: {event['type']}\n" if request.format == "responses" else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()
    yield b"data: [DONE]\n\n"


def pieces_of(text: str) -> list[str]:
    """Return the text in a few pieces, as a model would stream it."""
    size = max(1, -(-len(text) // _PIECES))
    return [text[begin : begin + size] for begin in range(0, len(text), size)] or [""]


def _chat_events(reply: ModelReply, number: int) -> Iterator[dict[str, Any]]:
    head = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": reply.served_model,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    if reply.reasoning:
        yield chunk({"reasoning_content": reply.reasoning})
    for piece in pieces_of(reply.text):
        yield chunk({"content": piece})
    yield chunk({}, "stop")
    yield {**head, "choices": [], "usage": _chat_usage(reply)}


def _responses_events(reply: ModelReply, number: int) -> Iterator[dict[str, Any]]:
    pending = {**responses_body(reply, number, status="in_progress"), "usage": None}
    yield {"type": "response.created", "sequence_number": 0, "response": pending}
    pieces = pieces_of(reply.text)
    for position, piece in enumerate(pieces, start=1):
        yield {
            "type": "response.output_text.delta",
            "sequence_number": position,
            "item_id": f"msg_{number}",
            "output_index": 0,
            "content_index": 0,
            "delta": piece,
            "logprobs": [],
        }
    yield {
        "type": "response.completed",
        "sequence_number": len(pieces) + 1,
        "response": responses_body(reply, number),
    }


def _chat_usage(reply: ModelReply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.tokens_in,
        "completion_tokens": reply.tokens_out,
        "total_tokens": reply.tokens_in + reply.tokens_out,
    }


def _responses_usage(reply: ModelReply) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "input_tokens": reply.tokens_in,
        "output_tokens": reply.tokens_out,
        "total_tokens": reply.tokens_in + reply.tokens_out,
    }
    if reply.cost_usd is not None:
        usage["cost"] = {"currency": "USD", "total_cost": reply.cost_usd}
    return usage


def _text_of(messages: object) -> str:
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list):
        return ""
    texts: list[str] = []
    for message in cast("list[object]", messages):
        content = cast("dict[str, object]", message).get("content") if isinstance(message, dict) else message
        if isinstance(content, list):
            parts = cast("list[object]", content)
            content = "".join(
                str(cast("dict[str, object]", part).get("text", "")) for part in parts if isinstance(part, dict)
            )
        texts.append(str(content or ""))
    return "\n".join(texts)


def _schema_of(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return None
    named = cast("dict[str, Any]", wanted).get("json_schema")
    schema: object = cast("dict[str, Any]", named).get("schema") if isinstance(named, dict) else None
    return cast("Mapping[str, Any]", schema) if isinstance(schema, dict) else None
