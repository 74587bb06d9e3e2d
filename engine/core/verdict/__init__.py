"""The verdict: what the evidence about one strategy, and about everything tried beside it, allows one to say."""

from __future__ import annotations

from engine.core.verdict.checklist import Check, Standing, Verdict, judge
from engine.core.verdict.evidence import Evidence, OwnFacts, SearchFacts, StabilityFacts, Standings

__all__ = [
    "Check",
    "Evidence",
    "OwnFacts",
    "SearchFacts",
    "StabilityFacts",
    "Standing",
    "Standings",
    "Verdict",
    "judge",
]
