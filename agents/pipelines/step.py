"""What a pipeline is made of: typed steps, each asked of an agent or done with tools, over what came before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from agents.routing import Task
from agents.toolbox import Toolbox
from engine.errors import BadRequest

Form = TypeVar("Form", bound=BaseModel)


class Given(BaseModel):
    """What a pipeline is asked with."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Found(BaseModel):
    """What a step done with tools found."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def checked(read: Callable[[str], object], *, or_empty: bool = False) -> Callable[[str], str]:
    """Return a validator that leaves a text as it is and refuses what `read` cannot read, in its words."""

    def check(text: str) -> str:
        if or_empty and not text:
            return text
        try:
            read(text)
        except BadRequest as error:
            raise ValueError(f"{error.message}; {error.fix}") from error
        return text

    return check


@dataclass(frozen=True, slots=True)
class Past:
    """The request of a pipeline and what its steps came to until now."""

    given: BaseModel
    outputs: Mapping[str, BaseModel] = field(default_factory=dict[str, BaseModel])

    def asked(self, form: type[Form]) -> Form:
        """Return the request."""
        assert isinstance(self.given, form)  # noqa: S101  the runner has read it by this form
        return self.given

    def of(self, step: str, form: type[Form]) -> Form:
        """Return what an earlier step came to."""
        output = self.outputs[step]
        assert isinstance(output, form)  # noqa: S101  the runner has read it by the step's form
        return output

    def with_output(self, step: str, output: BaseModel) -> Past:
        """Return the past with one more step."""
        return Past(self.given, {**self.outputs, step: output})


@dataclass(frozen=True, slots=True)
class StepQuestion:
    """What a step asks: the form of the answer, facts that figures must come from, and material to work on."""

    form: type[BaseModel]
    brief: Any = None
    context: str = ""
    wish: str = ""


@dataclass(frozen=True, slots=True)
class AgentStep:
    """A step that an agent answers.

    Attributes
    ----------
    name : str
    task : Task
        Decides who is asked.
    prompt : str
        File in `agents/prompts` with what is asked.
    question : callable
        Makes the question from what came before.
    """

    name: str
    task: Task
    prompt: str
    question: Callable[[Past], StepQuestion]


@dataclass(frozen=True, slots=True)
class ToolStep:
    """A step that computes with the server's tools; no agent has a say in it."""

    name: str
    form: type[BaseModel]
    act: Callable[[Past, Toolbox], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in their order."""

    name: str
    summary: str
    given: type[BaseModel]
    steps: tuple[AgentStep | ToolStep, ...]
