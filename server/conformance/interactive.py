"""Fixture tools that ask the client for something: its user, its model or its roots, in both protocol eras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve, Sample
from mcp.server.mcpserver.tools import Tool
from mcp.types import (
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
)
from pydantic import BaseModel, Field, JsonValue

from server.conformance.plain import answer, text

JSON_TYPES: Final = {str: "string", bool: "boolean"}


class Reply(BaseModel):
    """What the user is asked for."""

    response: str = Field(description="Any answer")


class WithDefaults(BaseModel):
    """One field of every primitive type, each with a default (SEP-1034)."""

    name: str = Field("John Doe", description="A text")
    age: int = Field(30, description="A whole number")
    score: float = Field(95.5, description="A number")
    status: str = Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = Field(True, description="Yes or no")


def _titled(*choices: tuple[str, str]) -> list[JsonValue]:
    return [{"const": value, "title": title} for value, title in choices]


class WithChoices(BaseModel):
    """One field of every form of choice (SEP-1330)."""

    untitled_single: str = Field(alias="untitledSingle", json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titled_single: str = Field(
        alias="titledSingle",
        json_schema_extra={"oneOf": _titled(("value1", "First"), ("value2", "Second"), ("value3", "Third"))},
    )
    legacy_enum: str = Field(
        alias="legacyEnum",
        json_schema_extra={"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
    )
    untitled_multi: list[str] = Field(
        alias="untitledMulti",
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    )
    titled_multi: list[str] = Field(
        alias="titledMulti",
        json_schema_extra={"items": {"anyOf": _titled(("value1", "First"), ("value2", "Second"), ("value3", "Third"))}},
    )


async def ask_reply(message: str) -> Elicit[Reply]:
    """Put the caller's own question to the user."""
    return Elicit(message, Reply)


async def ask_fixed_reply() -> Elicit[Reply]:
    """Put a question to the user."""
    return Elicit("What should be done?", Reply)


async def ask_defaults() -> Elicit[WithDefaults]:
    """Ask for values that have defaults."""
    return Elicit("Check these values", WithDefaults)


async def ask_choices() -> Elicit[WithChoices]:
    """Ask for choices."""
    return Elicit("Choose", WithChoices)


def _sample(prompt: str) -> Sample:
    return Sample([SamplingMessage(role="user", content=text(prompt))], max_tokens=100)


async def ask_model(prompt: str) -> Sample:
    """Put the caller's own prompt to the client's model."""
    return _sample(prompt)


async def ask_model_anything() -> Sample:
    """Put a prompt to the client's model."""
    return _sample("Say anything.")


def _outcome(result: ElicitationResult[Any]) -> CallToolResult:
    data = result.data.model_dump_json(by_alias=True) if result.action == "accept" else "{}"
    return answer(text(f"action={result.action} content={data}"))


async def test_elicitation(
    message: str, reply: Annotated[ElicitationResult[Reply], Resolve(ask_reply)]
) -> CallToolResult:
    """Ask the user the question in the message."""
    del message  # the resolver asked it
    return _outcome(reply)


async def test_streaming_elicitation(
    reply: Annotated[ElicitationResult[Reply], Resolve(ask_fixed_reply)],
) -> CallToolResult:
    """Ask the user while the answer is a stream."""
    return _outcome(reply)


async def test_elicitation_sep1034_defaults(
    reply: Annotated[ElicitationResult[WithDefaults], Resolve(ask_defaults)],
) -> CallToolResult:
    """Ask the user for values that have defaults."""
    return _outcome(reply)


async def test_elicitation_sep1330_enums(
    reply: Annotated[ElicitationResult[WithChoices], Resolve(ask_choices)],
) -> CallToolResult:
    """Ask the user to choose."""
    return _outcome(reply)


async def test_sampling(prompt: str, reply: Annotated[CreateMessageResult, Resolve(ask_model)]) -> CallToolResult:
    """Ask the client's model what the prompt says."""
    del prompt  # the resolver asked it
    return answer(text(f"The model said: {_said(reply)}"))


async def test_missing_capability(
    reply: Annotated[CreateMessageResult, Resolve(ask_model_anything)],
) -> CallToolResult:
    """Need the client's model, which not every client lends."""
    return answer(text(f"The model said: {_said(reply)}"))


def _said(reply: CreateMessageResult) -> str:
    return reply.content.text if reply.content.type == "text" else reply.content.type


def form(message: str, **fields: type) -> ElicitRequest:
    """Return a question with these required fields."""
    properties = {name: {"type": JSON_TYPES[kind]} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sampling(prompt: str, max_tokens: int) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=text(prompt))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=max_tokens))


def given(context: Context, key: str, field: str) -> Any:
    """Return one field of the client's accepted reply to this question, None when there is none."""
    reply = (context.input_responses or {}).get(key)
    if isinstance(reply, ElicitResult) and reply.action == "accept" and reply.content:
        return reply.content.get(field)
    return None


def asks(requests: dict[str, InputRequest], state: str | None = None) -> InputRequiredResult:
    """Return these questions in place of an answer."""
    return InputRequiredResult(input_requests=requests, request_state=state)


async def test_input_required_result_elicitation(context: Context) -> CallToolResult | InputRequiredResult:
    """Greet the user by the name they give."""
    name = given(context, "user_name", "name")
    if not isinstance(name, str):
        return asks({"user_name": form("What is your name?", name=str)})
    return answer(text(f"Hello, {name}!"))


async def test_input_required_result_sampling(context: Context) -> CallToolResult | InputRequiredResult:
    """Repeat what the client's model said."""
    reply = (context.input_responses or {}).get("capital_question")
    if not isinstance(reply, CreateMessageResult):
        return asks({"capital_question": _sampling("What is the capital of France?", 100)})
    return answer(text(_said(reply)))


async def test_input_required_result_list_roots(context: Context) -> CallToolResult | InputRequiredResult:
    """Name the client's roots."""
    reply = (context.input_responses or {}).get("client_roots")
    if not isinstance(reply, ListRootsResult):
        return asks({"client_roots": ListRootsRequest()})
    return answer(text(", ".join(str(root.uri) for root in reply.roots) or "no roots"))


async def test_input_required_result_request_state(context: Context) -> CallToolResult | InputRequiredResult:
    """Get back the state that was handed out with the question."""
    if given(context, "confirm", "ok") is None or context.request_state != "asked":
        return asks({"confirm": form("Please confirm", ok=bool)}, "asked")
    return answer(text("state-ok"))


async def test_input_required_result_tampered_state(context: Context) -> CallToolResult | InputRequiredResult:
    """Hand out a state whose seal the server checks."""
    return await test_input_required_result_request_state(context)


async def test_input_required_result_multiple_inputs(context: Context) -> CallToolResult | InputRequiredResult:
    """Ask three different things at once."""
    questions: dict[str, InputRequest] = {
        "user_name": form("What is your name?", name=str),
        "greeting": _sampling("Generate a greeting", 50),
        "client_roots": ListRootsRequest(),
    }
    if not questions.keys() <= (context.input_responses or {}).keys():
        return asks(questions, "three questions")
    return answer(text(f"{given(context, 'user_name', 'name')} answered everything"))


async def test_input_required_result_multi_round(context: Context) -> CallToolResult | InputRequiredResult:
    """Ask one question after the other."""
    if context.request_state is None:
        return asks({"step1": form("Step 1: What is your name?", name=str)}, "step1")
    if context.request_state == "step1":
        name = given(context, "step1", "name")
        return asks({"step2": form("Step 2: What is your favorite color?", color=str)}, f"step2 {name}")
    name = context.request_state.removeprefix("step2 ")
    return answer(text(f"{name} likes {given(context, 'step2', 'color')}"))


async def test_input_required_result_capabilities(context: Context) -> CallToolResult | InputRequiredResult:
    """Ask only for what the client can give."""
    can = context.client_capabilities
    if context.input_responses:
        return answer(text("answered"))
    questions: dict[str, InputRequest] = {}
    if can is not None and can.elicitation is not None:
        questions["user_name"] = form("What is your name?", name=str)
    if can is not None and can.sampling is not None:
        questions["greeting"] = _sampling("Generate a greeting", 50)
    return asks(questions) if questions else answer(text("this client can be asked nothing"))


_FUNCTIONS: Final[tuple[Callable[..., Any], ...]] = (
    test_elicitation,
    test_streaming_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_sampling,
    test_missing_capability,
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
)
INTERACTIVE_TOOLS: Final = [Tool.from_function(function, structured_output=False) for function in _FUNCTIONS]
