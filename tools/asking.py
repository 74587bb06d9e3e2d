"""Asks the user for consent: an argument wins, then the host's own dialog, then an error that names the argument."""

# Annotations here name functions of an enclosing function, so they must be evaluated where they stand.
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult, Resolve
from pydantic import BaseModel, Field

from engine.errors import BadRequest, Cancelled
from tools.failures import as_tool_error

INSIST = "pass confirm: true once the user has agreed"


class Confirmation(BaseModel):
    """What the user is asked for."""

    confirm: bool = Field(description="Yes, do it")


def can_be_asked(context: Context[Any]) -> bool:
    """Tell whether the client can put a form to its user."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    # A bare `elicitation: {}` is the form of revisions that knew no modes.
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def consent(question: str) -> Callable[..., Awaitable[bool]]:
    """Return a resolver for a tool with the argument `confirm: bool | None`; its value is always True.

    Declare it as `agreed: Annotated[bool, Resolve(consent("Remove ...?"))]`. Without consent the tool does not run.
    """

    async def ask(confirm: bool | None, context: Context[Any]) -> bool | Elicit[Confirmation]:
        if confirm is not None:
            return confirm
        if not can_be_asked(context):
            raise as_tool_error(BadRequest(f"{question} The user cannot be asked here.", fix=INSIST))
        return Elicit(question, Confirmation)

    async def agreed(reply: Annotated[ElicitationResult[Confirmation], Resolve(ask)]) -> bool:
        # An argument arrives as a plain bool, the user's own answer as the model.
        answer: Any = reply.data if isinstance(reply, AcceptedElicitation) else False
        if answer is True or (isinstance(answer, Confirmation) and answer.confirm):
            return True
        raise as_tool_error(Cancelled("not confirmed; nothing was changed", fix=INSIST))

    return agreed
