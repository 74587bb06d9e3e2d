"""How answers tell what a sealed holdout keeps back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from engine.core.times import iso_utc

if TYPE_CHECKING:
    from engine.core.holdout import Withheld

_WHY = "sealed holdout; open_holdout evaluates one chosen run on it"


class WithheldPart(BaseModel):
    """The end of a range, kept back by the seal of a study."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    since: str = Field(alias="from", description="Bars that close later are withheld")
    study: str
    why: str


def withheld_part(withheld: Withheld | None) -> WithheldPart | None:
    """Return what an answer says about what was kept back."""
    if withheld is None:
        return None
    return WithheldPart.model_validate({"from": iso_utc(withheld.from_ms), "study": withheld.study, "why": _WHY})
