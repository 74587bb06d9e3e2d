"""Shares and multiples in words ("half of the trades", "doubled the money") held against the facts.

Only where such a word can be nothing but a claim about results; comparisons, guesses and denials pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agents import number_words as words
from agents.number_facts import Fact

# "Half" is said of 45 to 55 %, "doubled" of anything within a tenth.
_SHARE_TOLERANCE, _MULTIPLE_TOLERANCE = 0.1, 0.1


def invented_shares(text: str, facts: Sequence[Fact]) -> Iterator[str]:
    """Yield the shares and multiples in words that no fact supports, as they are written."""
    for found in words.SHARE_OF_RESULT.finditer(text):
        spelled = found.group("share") or found.group("shares") or found.group("russian")
        about = found.group("what") or found.group("what_russian")
        if _is_claim(found, text) and not _is_share_known(_share(spelled), _subject(about, found, text), facts):
            yield found.group(0)
    for found in words.SHARE_AS_VALUE.finditer(text):
        if _is_claim(found, text) and not _is_share_known(_share(found.group("share")), found.group("name"), facts):
            yield found.group(0)
    for found in words.MULTIPLE.finditer(text):
        if _is_claim(found, text) and not _is_multiple_known(_multiple(found), facts):
            yield found.group(0)


def _is_claim(found: re.Match[str], text: str) -> bool:
    return not words.NO_CLAIM_BEFORE.search(text[max(0, found.start() - 60) : found.start()])


def _share(spelled: str) -> float:
    return words.SHARES[spelled.lower().replace("-", " ")]


def _subject(about: str, found: re.Match[str], text: str) -> str:
    """Return what a share of trades is a share of: winners where it says so, anything otherwise."""
    if about.lower() not in {"trades", "сделок"}:
        return ""
    follows = text[found.end() : found.end() + 40]
    wins = re.match(r"\W+(?:\w+ )?(?:won|win|profitable|winners|прибыльн|выигр)", follows, re.IGNORECASE)
    return "win" if wins else ""


def _is_share_known(share: float, subject: str, facts: Sequence[Fact]) -> bool:
    key = next((key for name, key in words.SHARE_KEYS if subject and name.search(subject)), None)
    named = [fact for fact in facts if key is not None and key.search(fact.path)]
    candidates = [_fraction(fact) for fact in named or facts]
    if subject == "win":
        candidates += _won_of_all(facts)
    return any(abs(abs(value) - share) <= share * _SHARE_TOLERANCE for value in candidates)


def _fraction(fact: Fact) -> float:
    is_percent = fact.is_percent or "percent" in fact.path.lower() or "pct" in fact.path.lower()
    return fact.value / 100 if is_percent else fact.value


def _won_of_all(facts: Sequence[Fact]) -> list[float]:
    wins = [fact.value for fact in facts if fact.key in {"wins", "winning", "winners", "winning_trades"}]
    counts = [fact.value for fact in facts if fact.key in {"trades", "count", "closed"} and fact.value > 0]
    return [won / count for won in wins for count in counts]


def _multiple(found: re.Match[str]) -> float:
    verb = found.group("verb") or found.group("verb2") or found.group("russian")
    if verb:
        return words.MULTIPLES[verb.lower()]
    fold = found.group("fold").lower()
    return float(fold) if fold.isdigit() else float(words.WORD_VALUES.get(fold, 100))


def _is_multiple_known(multiple: float, facts: Sequence[Fact]) -> bool:
    returns = [1 + _fraction(fact) for fact in facts if words.RETURN_KEY.search(fact.path)]
    finals = [fact.value for fact in facts if "final" in fact.path.lower()]
    firsts = [fact.value for fact in facts if "initial" in fact.path.lower() and fact.value > 0]
    ratios = [final / first for final in finals for first in firsts]
    named = [fact.value for fact in facts if "multiple" in fact.path.lower() or not fact.path]
    near = multiple * _MULTIPLE_TOLERANCE
    return any(abs(value - multiple) <= near for value in [*returns, *ratios, *named])
