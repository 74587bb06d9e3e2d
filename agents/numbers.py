"""Is every figure in a text taken from the facts? Reads quoted numbers and looks for each among the facts given.

What counts as the same number: a fact rounded to the digits quoted, in the same unit. A fraction may be quoted as a percent
or in basis points, a percent as a fraction, a large number with thousands separators or as k, M, bn, a span of time in another
unit. Whole numbers are rounded only where it shows (percent, two digits and more, or a word such as "about").

What needs no fact: numbering of a list and "step 2", counts of what the text itself offers ("three experiments", "2 reasons"),
years, dates inside the span of the facts, times of day, chart intervals, names with digits in them (SMA200), and 90, 95 or
99 % in front of "confidence" or "percentile". Number words up to twelve count as figures only in front of a measure
("seven trades", "fifty percent").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from agents import number_words as words
from agents.number_facts import Fact, Facts
from agents.share_words import invented_shares


@dataclass(frozen=True, slots=True)
class Quote:
    """A number as a text quotes it: possible readings with the digits after the point, and its surroundings."""

    shown: str
    readings: tuple[tuple[float, int], ...]
    sign: str
    unit: str
    before: str
    after: str
    is_money: bool = False


def facts_from(brief: object, texts: Sequence[str] = ()) -> Facts:
    """Return the facts of a brief (any JSON value) and of other texts that may be quoted."""
    numbers: list[Fact] = []
    days: list[str] = []
    for path, value in _leaves(brief, ""):
        if isinstance(value, str):
            days += _days_in(value)
            numbers += [Fact("", number, is_percent) for number, is_percent in _numbers_in(value)]
        else:
            numbers.append(Fact(path, value))
            if words.EARLIEST_TIME_MS < value < words.LATEST_TIME_MS:
                days.append(datetime.fromtimestamp(value / 1e3, UTC).date().isoformat())
    for text in texts:
        days += _days_in(text)
        numbers += [Fact("", number, is_percent) for number, is_percent in _numbers_in(text)]
    text_of_brief = " ".join([*texts, *(value for _, value in _leaves(brief, "") if isinstance(value, str))])
    return Facts(tuple(numbers), min(days, default=None), max(days, default=None), text_of_brief.lower())


def invented_numbers(text: str, facts: Facts) -> list[str]:
    """Return the figures of a text that are in none of the facts, as they are written there."""
    rest, wrong_dates = _without_dates(text, facts)
    rest = _without_names(words.PASSED_OVER.sub(_blank, rest), facts)
    wrong = [quote.shown for quote in _quotes(rest) if not _needs_no_fact(quote) and not _is_among(quote, facts)]
    return wrong_dates + wrong + list(invented_shares(rest, facts.numbers))


def unfounded_numbers(text: str, facts: Facts) -> list[str]:
    """Return the figures of a text without a brief that read like data and stand in none of the texts given.

    Besides what never needs a fact: code, examples ("suppose ..."), whole numbers up to twelve that count nothing traded,
    calendars and common levels (252 days, 95 %).
    """
    prose = words.CODE.sub(_blank, text)
    prose = " ".join(part for part in words.SENTENCE_END.split(prose) if not words.EXAMPLE.search(part))
    rest, _ = _without_dates(prose, Facts(()))
    rest = _without_names(words.PASSED_OVER.sub(_blank, rest), facts)
    return [
        quote.shown
        for quote in _quotes(rest)
        if not _needs_no_fact(quote) and not _is_common(quote) and not _is_among(quote, facts)
    ]


def _is_common(quote: Quote) -> bool:
    value, digits = quote.readings[0]
    if quote.unit in words.PERCENT_UNITS:
        return value in words.COMMON_PERCENT
    if quote.unit or quote.is_money or words.TRADES_AFTER.match(quote.after):
        return False
    return value in words.COMMON or (digits == 0 and value <= words.MOST_PLAIN_WORD)


def _is_among(quote: Quote, facts: Facts) -> bool:
    candidates = _facts_about(quote, facts.numbers)
    return any(_matches(quote, value, digits, fact) for fact in candidates for value, digits in quote.readings)


def _facts_about(quote: Quote, facts: Sequence[Fact]) -> Sequence[Fact]:
    """Return the facts that a quote can mean: where a metric is named right before the number, only that metric's."""
    for name, key in words.METRICS:
        if name.search(quote.before):
            named = [fact for fact in facts if key.search(fact.path)]
            # A text that may be quoted (question, search result) names no paths, so it stays allowed.
            return [*named, *(fact for fact in facts if not fact.path)] if named else facts
    if named := _named(quote, facts):
        return [*named, *(fact for fact in facts if not fact.path)]
    if words.TRADES_AFTER.match(quote.after) and not quote.unit:
        named = [fact for fact in facts if words.TRADES_KEY.search(fact.path) and fact.value.is_integer()]
        return [*named, *(fact for fact in facts if not fact.path)] if named else facts
    return facts


def _named(quote: Quote, facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts that `name: value` or `name = value` is about; none when the name is no field of the brief."""
    found = words.NAMED_BEFORE.search(quote.before)
    if found is None:
        return []
    name = found.group("name").strip().lower()
    asked = words.RUSSIAN_NAMES.get(name, name).replace(" ", "_").strip("_").split("_")
    return [fact for fact in facts if fact.path and _is_called(fact, asked)]


def _is_called(fact: Fact, asked: Sequence[str]) -> bool:
    parts = [part.lower() for part in fact.path.split(".")]
    key = parts[-1].split("_")
    if key[-1] in words.UNIT_ENDINGS and len(key) > 1:
        key = key[:-1]
    is_counted = parts[-1] in words.COUNT_NAMES and len(parts) > 1
    return key[-len(asked) :] == asked or (is_counted and parts[-2].split("_") == asked)


def _matches(quote: Quote, value: float, digits: int, fact: Fact) -> bool:
    if not _sign_agrees(quote, fact):
        return False
    tolerance = 0.5 * 10.0**-digits
    is_rough = bool(words.ABOUT_BEFORE.search(quote.before))
    if is_rough and digits == 0 and value >= 100 and float(value).is_integer():
        zeros = len(str(int(value))) - len(str(int(value)).rstrip("0"))
        tolerance = max(tolerance, 0.5 * 10.0**zeros)
    for target in _targets(quote, fact):
        near = abs(abs(value) - abs(target)) <= tolerance * (1 + 1e-9) + 1e-12
        must_be_exact = digits == 0 and not quote.unit and abs(value) < 10 and not is_rough
        if near and (not must_be_exact or math.isclose(abs(value), abs(target), rel_tol=1e-9)):
            return True
    return False


def _targets(quote: Quote, fact: Fact) -> Iterator[float]:
    """Yield the fact in every unit that the quote can be in."""
    key = fact.path.lower()
    is_percent = fact.is_percent or "percent" in key or "pct" in key
    is_fraction = not is_percent and ("fraction" in key or "ratio" in key or "rate" in key or "share" in key)
    if quote.unit in words.PERCENT_UNITS or quote.unit in words.POINT_UNITS:
        if not is_fraction:
            yield fact.value
        if not is_percent and abs(fact.value) <= 100:
            yield fact.value * 100
        return
    if quote.unit in words.BASIS_UNITS:
        yield fact.value if "bps" in key or "basis" in key else fact.value * (100 if is_percent else 10_000)
        return
    yield fact.value
    if is_percent:
        yield fact.value / 100
    if (unit := words.TIME_UNIT.match(quote.after)) and (key_ms := _key_unit_ms(fact.key)):
        yield fact.value * key_ms / words.UNITS_MS[unit.group(1).lower()]


def _key_unit_ms(key: str) -> float | None:
    return next((factor for ending, factor in words.KEY_UNITS_MS.items() if key.endswith(ending)), None)


def _sign_agrees(quote: Quote, fact: Fact) -> bool:
    if fact.value == 0 or not fact.path:
        return True
    is_loss = bool(words.LOSS_KEY.search(fact.path))
    if quote.sign == "+":
        return fact.value > 0
    if quote.sign == "-":
        return fact.value < 0 or is_loss
    if fact.value < 0 and words.GAIN_WORDS.search(quote.before):
        return False
    return not (fact.value > 0 and not is_loss and not _is_count(fact) and words.LOSS_WORDS.search(quote.before))


def _is_count(fact: Fact) -> bool:
    return fact.value.is_integer()


def _needs_no_fact(quote: Quote) -> bool:
    value, digits = quote.readings[0]
    if digits or quote.unit or quote.sign or quote.is_money:
        return False
    if value <= words.MOST_OFFERED and words.COUNT_OF_OFFERED.match(quote.after):
        return True
    is_year = words.TEXT_DATES_FIRST_YEAR <= value <= words.TEXT_DATES_LAST_YEAR and len(quote.shown) == 4
    return is_year and not re.match(
        r"\s*(?:[a-z]+\s+)?(?:trades?|bars?|days?|usdt?|dollars|points?|contracts|candles?)\b",
        quote.after,
        re.IGNORECASE,
    )


def _quotes(text: str) -> Iterator[Quote]:
    for found in words.NUMBER.finditer(text):
        yield _quote(found, text)
    for found in [*words.WORD_NUMBER.finditer(text), *words.RUSSIAN_NUMBER.finditer(text)]:
        value = _word_value(found.group("words"))
        after = (found.group("after") or "").strip(" -").lower()
        is_percent = after in {"percent", "per cent"} or after.startswith(("percentage", "процент"))
        if after or value > words.MOST_PLAIN_WORD:
            unit = "%" if is_percent else "bps" if after.startswith("basis") else ""
            begin, end = found.span("words")
            yield Quote(
                found.group(0), ((float(value), 0),), "", unit, text[max(0, begin - 60) : begin], text[end : end + 40]
            )


def _quote(found: re.Match[str], text: str) -> Quote:
    begin, end = found.span()
    unit = (found.group("unit") or "").strip().lower()
    if unit.startswith("процент"):
        unit = "%"
    sign = {"−": "-", "–": "-", "±": ""}.get(found.group("sign") or "", found.group("sign") or "")
    if sign == "-" and begin and text[begin - 1].isspace() and re.search(r"\d\s*$", text[:begin]):
        sign = ""  # the dash of a range
    scale = words.SCALES.get(unit, 1.0)
    readings = tuple((value * scale, digits - round(math.log10(scale))) for value, digits in _readings(found))
    return Quote(
        shown=found.group(0).strip(),
        readings=readings,
        sign=sign,
        unit="" if scale != 1.0 or unit in {"x", "×"} else unit,
        before=text[max(0, begin - 60) : begin],
        after=text[end : end + 40],
        is_money=found.group("currency") is not None,
    )


def _readings(found: re.Match[str]) -> Iterator[tuple[float, int]]:
    """Yield value and digits after the point; `1,234` may be read in two ways."""
    whole = re.sub(rf"[,'_ {words.SPACES}]", "", found.group("whole"))
    decimals = found.group("decimals") or ""
    exponent = int(found.group("exponent") or 0)
    yield float(f"{whole}.{decimals or 0}e{exponent}"), len(decimals) - exponent
    if re.fullmatch(r"\d{1,3},\d{3}", found.group("whole")) and not decimals:
        yield float(found.group("whole").replace(",", ".")), 3


def _word_value(spelled: str) -> int:
    total = current = 0
    for word in re.split(r"[ -]", spelled.lower()):
        if times := words.MULTIPLIERS.get(word) or words.RUSSIAN_MULTIPLIERS.get(word):
            current = max(1, current) * times
            if times >= 1_000:
                total, current = total + current, 0
        else:
            current += words.WORD_VALUES.get(word) or words.RUSSIAN_VALUES.get(word) or 0
    return total + current


def _without_dates(text: str, facts: Facts) -> tuple[str, list[str]]:
    """Return the text without dates, and the dates outside the span of the facts."""
    wrong: list[str] = []

    def check(shown: str, day: str, length: int) -> str:
        if (
            facts.first_day
            and facts.last_day
            and not facts.first_day[:length] <= day[:length] <= facts.last_day[:length]
        ):
            wrong.append(shown)
        return " "

    def iso(found: re.Match[str]) -> str:
        return check(found.group(0), found.group(0)[:10], 10 if found.group(3) else 7)

    def written(found: re.Match[str]) -> str:
        year = found.group("year") or found.group("year2") or found.group("year3")
        month = _month(found.group("month") or found.group("month2") or found.group("month3"))
        day = found.group("day") or found.group("day2") or found.group("day3")
        return check(found.group(0), f"{year}-{month:02}-{int(day or 1):02}", 10 if day else 7)

    return words.WRITTEN_DATE.sub(written, words.ISO.sub(iso, text)), wrong


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    return ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"].index(
        text[:3].lower()
    ) + 1


def _without_names(text: str, facts: Facts) -> str:
    def judge(found: re.Match[str]) -> str:
        name = found.group(0)
        is_known = name.lower() in facts.text
        is_short = re.fullmatch(r"[A-Za-z]{1,6}_?\d{1,3}", name) is not None and not words.LOOKS_LIKE_METRIC.match(name)
        return " " * len(name) if is_known or is_short else re.sub(r"[A-Za-z_]", " ", name)

    return words.NAME_WITH_DIGITS.sub(judge, text)


def _blank(found: re.Match[str]) -> str:
    return " " * len(found.group(0))


def _leaves(value: object, path: str) -> Iterator[tuple[str, float | str]]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        if math.isfinite(value):
            yield path, float(value)
    elif isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in cast("Mapping[object, object]", value).items():
            yield from _leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for each in cast("Sequence[Any]", value):
            yield from _leaves(each, path)


def _numbers_in(text: str) -> Iterator[tuple[float, bool]]:
    for found in words.NUMBER.finditer(words.ISO.sub(" ", text)):
        sign = -1.0 if (found.group("sign") or "") in {"-", "−"} else 1.0
        unit = (found.group("unit") or "").lower()
        for value, _ in _readings(found):
            yield sign * value * words.SCALES.get(unit, 1.0), unit in words.PERCENT_UNITS
    for found in words.NAME_WITH_DIGITS.finditer(text):
        # EMA20 holds a length; an identifier such as run_7f3a holds none.
        if length := re.fullmatch(r"[A-Za-z]{1,6}_?(\d{1,3})", found.group(0)):
            yield float(length.group(1)), False


def _days_in(text: str) -> list[str]:
    return [found.group(0)[:10] for found in words.ISO.finditer(text) if found.group(3)]
