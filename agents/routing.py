"""Which agents are asked for which kind of question, and how a free question is classified."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeGuard, get_args

from agents.providers import HOST
from engine.errors import BadRequest

Task = Literal["reason", "research", "explain", "code", "document", "audit"]
TASKS: tuple[Task, ...] = get_args(Task)

# "local" stands for every local server, in the order of the settings; the host answers when nobody else does.
LOCAL = "local"
DEFAULT_ROUTES: Mapping[Task, tuple[str, ...]] = {
    "reason": ("deepseek", "deepseek-fast", LOCAL, "perplexity", "copilot"),
    "research": ("perplexity", "deepseek-fast", LOCAL, "copilot"),
    "explain": ("deepseek-fast", "perplexity-fast", LOCAL, "copilot"),
    "code": ("deepseek", "deepseek-fast", LOCAL, "copilot"),
    "document": ("deepseek-fast", "deepseek", LOCAL, "copilot"),
    "audit": ("deepseek", "perplexity", LOCAL, "copilot"),
}

# Word stems and their weight; English and Russian, because the first users write both.
_WORDS: Mapping[Task, Mapping[str, float]] = {
    "research": {
        r"\bresearch": 3, r"\bliterature\b": 3, r"\bpapers?\b": 3, r"\bsources?\b": 2, r"\bnews\b": 3, r"\blatest\b": 2,
        r"\bcit(?:e|ation)": 2, r"\bsearch (?:the )?web\b": 3, r"\blook up\b": 2, r"\bhistory of\b": 1,
        r"исслед": 3, r"новост": 3, r"источник": 2, r"литератур": 3, r"найди в": 2,
    },
    "explain": {
        r"\bexplain": 3, r"\bwhat (?:is|are|does)\b": 2, r"\bmeaning\b": 2, r"\bdefin(?:e|ition)": 2, r"\bin plain\b": 2,
        r"\bhow does\b": 2, r"объясн": 3, r"что (?:такое|значит|означает)": 3, r"простыми словами": 2, r"поясни": 3,
    },
    "code": {
        r"\bcode\b": 3, r"\bpython\b": 2, r"\bfunction\b": 2, r"\brefactor": 3, r"\bbugs?\b": 2, r"\bimplement": 2,
        r"\bscript\b": 2, r"\bwrite a (?:strategy|test)\b": 2, r"\bpine\b": 2, r"```": 2, r"\bdef \w+\(": 3,
        r"\bunit tests?\b": 2, r"\bкод\b": 3, r"функци": 2, r"рефактор": 3, r"исправь": 2, r"реализ": 2,
    },
    "document": {
        r"\bdocument(?!ed)": 3, r"\bdocstrings?\b": 3, r"\breadme\b": 3, r"\bchangelog\b": 3, r"\bwrite up\b": 2,
        r"\bsummar(?:y|ise|ize)\b": 1, r"документ": 3, r"опиши": 2, r"комментари": 1,
    },
    "audit": {
        r"\baudit": 3, r"\breview": 3, r"\bverify\b": 2, r"\bcritici[sz]e\b": 2, r"\bfind (?:the )?flaws?\b": 3,
        r"\bsecurity\b": 2, r"\bdouble[- ]check": 2, r"аудит": 3, r"провер(?:ь|ить|ка)": 2, r"ревью": 3,
    },
    "reason": {
        r"\banaly[sz]e": 2, r"\bcompare\b": 2, r"\bwhy\b": 1, r"\bshould i\b": 2, r"\badvi[cs]e": 2, r"\bjudge\b": 2,
        r"\binterpret": 2, r"\brisks?\b": 1, r"\bbetter\b": 1, r"\bevaluate\b": 2, r"анализ": 2, r"сравн": 2, r"почему": 1,
        r"совет": 2, r"оцени": 2,
    },
}  # fmt: skip
_PATTERNS: Mapping[Task, tuple[tuple[re.Pattern[str], str, float], ...]] = {
    task: tuple((re.compile(word, re.IGNORECASE), word, weight) for word, weight in words.items())
    for task, words in _WORDS.items()
}
_LONGEST_CLASSIFIED = 4_000


@dataclass(frozen=True, slots=True)
class Route:
    """Who is asked in which order, and why.

    Attributes
    ----------
    task : Task
        Kind of question.
    rule : str
        What decided the kind: the caller, or the words found with their score.
    agents : tuple of str
        Those asked, in order; the host comes after them.
    unusable : mapping of agent to reason
        Those of the table that cannot be asked, and what is missing.
    """

    task: Task
    rule: str
    agents: tuple[str, ...]
    unusable: Mapping[str, str] = field(default_factory=dict[str, str])


def classify(prompt: str) -> tuple[Task, str]:
    """Return the kind of a free question and the rule that decided; a tie, or no word at all, is `reason`."""
    text = prompt[:_LONGEST_CLASSIFIED]
    scores: dict[Task, float] = {}
    words: dict[Task, list[str]] = {}
    for task, patterns in _PATTERNS.items():
        hits = [
            (found.group(0).strip().lower(), weight)
            for pattern, _, weight in patterns
            if (found := pattern.search(text))
        ]
        scores[task] = sum(weight for _, weight in hits)
        words[task] = [word for word, _ in hits]
    best = max(scores.values())
    winners: list[Task] = [task for task in TASKS if scores[task] == best]
    if best == 0:
        return "reason", "no known word: reason"
    if len(winners) > 1:
        return "reason", f"tie of {', '.join(winners)} at {best:g}: reason"
    return winners[0], f"words {', '.join(words[winners[0]])}: {winners[0]} {best:g}"


def read_table(routes: Mapping[str, Sequence[str]], known: Sequence[str]) -> dict[Task, tuple[str, ...]]:
    """Return the routing table with overrides; unknown tasks and agents are refused by name."""
    table = dict(DEFAULT_ROUTES)
    for task, names in routes.items():
        if not _is_task(task):
            raise BadRequest(f"the routing table names an unknown task {task!r}", fix=f"tasks are {', '.join(TASKS)}")
        unknown = [name for name in names if name not in {*known, LOCAL, HOST}]
        if unknown:
            raise BadRequest(
                f"the routing table names an unknown agent {unknown[0]!r}",
                fix=f"agents are {', '.join([*known, LOCAL])}",
            )
        table[task] = tuple(names)
    return table


def checked_task(task: str) -> Task:
    """Return a task type, or raise naming those there are."""
    if task not in TASKS:
        raise BadRequest(
            f"unknown task {task!r}", fix=f"give one of {', '.join(TASKS)}, or none to classify the prompt"
        )
    return task


def _is_task(task: str) -> TypeGuard[Task]:
    return task in TASKS
