"""Fixture resources and prompts, and the requests that only older revisions know."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, Message, UserMessage
from mcp.types import (
    EmptyResult,
    InputRequiredResult,
    RequestParams,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

from server.conformance.interactive import asks, form, given
from server.conformance.plain import PIXEL_PNG, embedded, pixel

if TYPE_CHECKING:
    from server.lab_server import LabServer


def add_resources(server: LabServer) -> None:
    """Add a text, a binary, a watched and a templated resource."""

    def static_text() -> str:
        return "A text that never changes."

    def static_binary() -> bytes:
        return base64.b64decode(PIXEL_PNG)

    def watched() -> str:
        return "A text one may watch."

    def templated(id: str) -> str:  # noqa: A002 - the suite names the variable
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    server.resource("test://static-text", mime_type="text/plain", description="A text")(static_text)
    server.resource("test://static-binary", mime_type="image/png", description="An image")(static_binary)
    server.resource("test://watched-resource", mime_type="text/plain", description="A text to watch")(watched)
    server.resource("test://template/{id}/data", mime_type="application/json", description="A template")(templated)


def add_prompts(server: LabServer) -> None:
    """Add prompts of every shape."""

    def test_simple_prompt() -> str:
        return "A simple prompt."

    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"arg1='{arg1}', arg2='{arg2}'"

    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite names it
        return [UserMessage(embedded(resourceUri, "The resource that was asked for.")), UserMessage("Read it.")]

    def test_prompt_with_image() -> list[Message]:
        return [UserMessage(pixel()), UserMessage("Look at it.")]

    async def test_input_required_result_prompt(context: Context) -> str | InputRequiredResult:
        wanted = given(context, "user_context", "context")
        if wanted is None:
            return asks({"user_context": form("What context should the prompt use?", context=str)})
        return f"Use this context: {wanted}"

    for function in (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
        test_input_required_result_prompt,
    ):
        server.prompt(description="A fixture")(function)


def add_legacy_answers(server: LabServer) -> None:
    """Answer `logging/setLevel` and `resources/(un)subscribe`, which the users' server does not offer."""

    async def accept(_context: ServerRequestContext[Any, Any], _params: RequestParams) -> EmptyResult:
        return EmptyResult()

    server.answer("logging/setLevel", SetLevelRequestParams, accept)
    server.answer("resources/subscribe", SubscribeRequestParams, accept)
    server.answer("resources/unsubscribe", UnsubscribeRequestParams, accept)
