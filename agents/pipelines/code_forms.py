"""What the pipelines about code share: their request, and the forms of changed code."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from agents.answers import PROPOSAL, Answer, CodeChange, Line, Text, register_form
from agents.pipelines.step import Given

MOST_CODE_CHARACTERS = 30_000
_PYTHON_ENDINGS = frozenset((".py", ".pyi"))


class CodeGiven(Given):
    """Code to work on."""

    code: Annotated[str, Field(min_length=1, max_length=MOST_CODE_CHARACTERS)]
    file: Annotated[str, Field(max_length=400, description="Its file, for its language")] = ""
    wish: Annotated[str, Field(max_length=4_000, description="What to look at or change")] = ""

    @property
    def language(self) -> Literal["python", "other"]:
        """Return the language by the file's ending; without one, Python."""
        ending = PurePath(self.file.replace("\\", "/")).suffix.lower()
        return "python" if not ending or ending in _PYTHON_ENDINGS else "other"


@register_form
class TextChange(Answer):
    """Changed code in another language than Python; nothing here can parse it."""

    code: Annotated[str, Field(min_length=1, max_length=40_000, json_schema_extra={PROPOSAL: True})]
    summary: Text


@register_form
class ReviewSummary(Answer):
    """What a review came to."""

    summary: Text
    most_important: Annotated[list[Line], Field(min_length=1, max_length=5)]
    remaining_risks: Annotated[list[Line], Field(max_length=5)]


def revision_form(given: CodeGiven) -> type[CodeChange | TextChange]:
    """Return the form of changed code: Python must parse."""
    return CodeChange if given.language == "python" else TextChange


def material(given: CodeGiven, **more: BaseModel) -> str:
    """Return the code, and what earlier steps said, as one JSON text to judge."""
    earlier = {name: each.model_dump(mode="json") for name, each in more.items()}
    return json.dumps({"file": given.file, "code": given.code, **earlier}, ensure_ascii=False)
