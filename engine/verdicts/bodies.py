"""The jobs of kind `verdict`, `stress` and `monte_carlo`: the same computation as a direct answer, for large runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.jobs import Document, JobContext
from engine.verdicts.examinations import Examinations
from engine.verdicts.verdicts import Verdicts

Work = Callable[[Document, JobContext], Awaitable[Document]]


class ExaminationBody:
    """Examines one run. `lasts` tells whether its result is the same whenever it is asked for."""

    def __init__(self, work: Work, *, lasts: bool) -> None:
        self._work = work
        self._lasts = lasts

    async def run(self, request: Document, context: JobContext) -> Document:
        """Examine the run."""
        context.report({"message": f"examining {request['run_id']}"})
        return await self._work(request, context)

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Return whether nothing that happened since can have changed the result."""
        del request, result
        return self._lasts


def examination_bodies(verdicts: Verdicts, examinations: Examinations) -> dict[str, ExaminationBody]:
    """Return the bodies of all kinds of examinations."""

    async def verdict(request: Document, context: JobContext) -> Document:
        return await verdicts.judge(request["run_id"], request["include"], context)

    async def stress(request: Document, context: JobContext) -> Document:
        return await examinations.stress(request["run_id"], context)

    async def monte_carlo(request: Document, context: JobContext) -> Document:
        return await examinations.monte_carlo(
            request["run_id"],
            request["method"],
            request["simulations"],
            request["ruin_fraction"],
            request["seed"],
            context,
        )

    return {
        "verdict": ExaminationBody(verdict, lasts=False),
        "stress": ExaminationBody(stress, lasts=True),
        "monte_carlo": ExaminationBody(monte_carlo, lasts=True),
    }
