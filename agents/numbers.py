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

_ABOUT = r"(?:about|around|roughly|approximately|nearly|almost|some|circa|ca\.?|just (?:over|under)|over|under|above|below|more than|less than|at least|up to|≈|~)"
_SPACES = "\u00a0\u2009\u202f"
_NUMBER = re.compile(
    rf"(?<![\w.,])(?P<sign>[+\-−–±])?(?P<currency>[$€£₽]\s?)?"
    rf"(?P<whole>\d{{1,3}}(?:[,'_ {_SPACES}]\d{{3}})+(?!\d)|\d+)(?:(?P<point>[.,])(?P<decimals>\d+))?"
    rf"(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?"
    rf"(?:[ {_SPACES}]?(?P<unit>%|percentage points?|percent|per cent|процент\w*|pp\b|bps\b|bp\b|basis points?|k\b|K\b|m\b(?!\w)|M\b|mn\b|million|bn\b|B\b|billion|thousand|x\b|×))?",
)
_MONTHS = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
_ISO = re.compile(
    r"\b(\d{4})-(\d{2})(?:-(\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?)?(?![\d-])"
)
_WRITTEN_DATE = re.compile(
    rf"\b(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?P<month>{_MONTHS})\.?,?\s+(?P<year>\d{{4}})"
    rf"|(?P<month2>{_MONTHS})\.?\s+(?:(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?,?\s+)?(?P<year2>\d{{4}})"
    rf"|(?P<day3>\d{{1,2}})[./](?P<month3>\d{{1,2}})[./](?P<year3>\d{{4}}))\b",
    re.IGNORECASE,
)
_PASSED_OVER = re.compile(
    r"https?://\S+"
    r"|\b\d{1,2}:\d{2}(?::\d{2})?\b"
    r"|^[ \t>*-]*\(?\d{1,2}[.)](?=\s)"
    r"|(?<!\w)\(\d{1,2}\)(?=\s+[A-Za-z])"
    r"|\b\d{1,2}(?:st|nd|rd|th)\b"
    r"|\b(?:step|experiment|idea|point|option|reason|scenario|question|item|part|section|figure|table|finding|proposal|test|version|phase|stage|note|rule|шаг|пункт|идея)s?\s*(?:no\.?|number|#)?\s*\d{1,2}\b(?![.,]\d|\s?%)"
    r"|(?<![\w.])(?:1|3|5|15|30)[ -]?(?:min|minutes?|m)\b(?=\s*(?:candles?|bars?|chart|timeframe|interval|data|series|[.,;)]|$))"
    r"|(?<![\w.$€£+-])(?:1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|24/7)\b"
    r"|(?<![\d.,$€£])\b(?:90|95|99)\s?%?[ -](?=confidence|percentile|quantile|credible|interval|level)",
    re.IGNORECASE | re.MULTILINE,
)
_NAME_WITH_DIGITS = re.compile(r"(?<![\w.])[A-Za-z_][A-Za-z_]*\d[\w]*(?![.,]?\d)")
_OFFERED = (
    r"(?:\w+ )?(?:experiments?|ideas?|weaknesses|reasons?|points?|steps?|ways?|options?|questions?|scenarios?|checks?|tests?|findings?"
    r"|suggestions?|things?|proposals?|remarks?|caveats?|parts?|sources?|kinds?|cases?|issues?|problems?|changes?|recommendations?"
    r"|strategies|runs|эксперимент\w*|иде\w+|причин\w*|вопрос\w*|шаг\w*)\b"
)
_COUNT_OF_OFFERED = re.compile(rf"\s+{_OFFERED}", re.IGNORECASE)
_MOST_OFFERED = 10

_UNITS_MS: Mapping[str, float] = {
    "ms": 1.0, "second": 1e3, "minute": 6e4, "hour": 3.6e6, "day": 8.64e7, "week": 6.048e8, "month": 2.6298e9, "year": 3.15576e10,
}  # fmt: skip
_KEY_UNITS_MS: Mapping[str, float] = {
    "_ms": 1.0, "_s": 1e3, "_seconds": 1e3, "_minutes": 6e4, "_hours": 3.6e6, "_days": 8.64e7, "_weeks": 6.048e8, "_years": 3.15576e10,
}  # fmt: skip
_TIME_UNIT = re.compile(r"[\s-]*(ms|second|minute|hour|day|week|month|year)s?\b", re.IGNORECASE)
_SCALES: Mapping[str, float] = {
    "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "b": 1e9, "billion": 1e9,
}  # fmt: skip
_PERCENT_UNITS = frozenset(("%", "percent", "per cent"))
_POINT_UNITS = frozenset(("percentage point", "percentage points", "pp"))
_BASIS_UNITS = frozenset(("bps", "bp", "basis point", "basis points"))

_LOSS_KEY = re.compile(
    r"drawdown|loss|losing|worst|cost|fee|slippage|ruin|mae|var|ulcer|down|funding|risk", re.IGNORECASE
)
_GAIN_WORDS = re.compile(
    r"\b(?:gain(?:ed|s)?|profits?|profitable|earned|earns?|rose|grew|up|won|made|gains of|profit of|positive|прибыл\w*|вырос\w*)(?:\s+\w+){0,2}\W*$",
    re.IGNORECASE,
)
_LOSS_WORDS = re.compile(
    r"\b(?:lost|loses|loss(?:es)?|fell|dropped|declined|down|negative|убыт\w*|упал\w*)(?:\s+\w+){0,2}\W*$",
    re.IGNORECASE,
)
_ABOUT_BEFORE = re.compile(rf"{_ABOUT}\s*$", re.IGNORECASE)

_LINK = rf"(?:\s+ratio)?(?:\s+(?:per year|annualised|annualized))?\W{{0,3}}(?:of|is|was|at|equals|equal to|reached|reaches|came to|stands at|comes to|stood at|being)?\s*(?:only|just|a|an|mere|still)?\s*(?:{_ABOUT})?\s*\W{{0,2}}$"
_METRICS: Sequence[tuple[re.Pattern[str], re.Pattern[str]]] = tuple(
    (re.compile(rf"\b{name}{_LINK}", re.IGNORECASE), re.compile(key, re.IGNORECASE))
    for name, key in (
        ("sharpe", "sharpe"),
        ("sortino", "sortino"),
        ("calmar", "calmar"),
        ("profit factor", "profit_?factor"),
        (r"win(?:ning)?[ -]?rate", "win_?rate|winners|percent_profitable"),
        ("(?:max(?:imum)? )?drawdown", "drawdown"),
        ("cagr", "cagr"),
        ("expectancy", "expectancy"),
        ("volatility", "volatility"),
        ("exposure", "exposure"),
        ("(?:total |net )?return", "return|cagr|profit"),
    )
)
_TRADES_AFTER = re.compile(r"\s+(?:\w+\s+)?(?:trades?|сдел\w+)\b", re.IGNORECASE)
_TRADES_KEY = re.compile(r"trade|wins|losses|count|entries|exits|winning|losing", re.IGNORECASE)

_WORD_VALUES: Mapping[str, int] = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
} | {
    word: value
    for value, word in zip(
        range(20, 100, 10), ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], strict=True
    )
}
_MULTIPLIERS: Mapping[str, int] = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_WORD_NUMBER = re.compile(
    rf"\b(?P<words>(?:{'|'.join(_WORD_VALUES)})(?:[ -](?:{'|'.join([*_WORD_VALUES, *_MULTIPLIERS])}|and))*)\b"
    r"(?P<after>[ -](?:percent|per cent|percentage points?|times|trades?|days?|weeks?|months?|years?|hours?|minutes?|bars?|losses|wins|losing|winning|closed|dollars|usdt|usd|contracts|basis points?))?",
    re.IGNORECASE,
)
_MOST_PLAIN_WORD = 12

_TEXT_DATES_FIRST_YEAR, _TEXT_DATES_LAST_YEAR = 1900, 2100
_EARLIEST_TIME_MS, _LATEST_TIME_MS = 1.0e12, 4.2e12


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that may be quoted, and where it stands."""

    path: str
    value: float
    is_percent: bool = False

    @property
    def key(self) -> str:
        """Return the last part of the path, in lower case."""
        return self.path.rsplit(".", 1)[-1].lower()


@dataclass(frozen=True, slots=True)
class Facts:
    """Every number and the span of dates that a text may quote."""

    numbers: tuple[Fact, ...]
    first_day: str | None = None
    last_day: str | None = None
    text: str = ""


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
            numbers += [Fact(path, number, is_percent) for number, is_percent in _numbers_in(value)]
        else:
            numbers.append(Fact(path, value))
            if _EARLIEST_TIME_MS < value < _LATEST_TIME_MS:
                days.append(datetime.fromtimestamp(value / 1e3, UTC).date().isoformat())
    for text in texts:
        days += _days_in(text)
        numbers += [Fact("", number, is_percent) for number, is_percent in _numbers_in(text)]
    words = " ".join([*texts, *(value for _, value in _leaves(brief, "") if isinstance(value, str))])
    return Facts(tuple(numbers), min(days, default=None), max(days, default=None), words.lower())


def invented_numbers(text: str, facts: Facts) -> list[str]:
    """Return the figures of a text that are in none of the facts, as they are written there."""
    rest, wrong_dates = _without_dates(text, facts)
    rest = _without_names(_PASSED_OVER.sub(_blank, rest), facts)
    wrong = [quote.shown for quote in _quotes(rest) if not _needs_no_fact(quote) and not _is_among(quote, facts)]
    return wrong_dates + wrong


def _is_among(quote: Quote, facts: Facts) -> bool:
    candidates = _facts_about(quote, facts.numbers)
    return any(_matches(quote, value, digits, fact) for fact in candidates for value, digits in quote.readings)


def _facts_about(quote: Quote, facts: Sequence[Fact]) -> Sequence[Fact]:
    """Return the facts that a quote can mean: where a metric is named right before the number, only that metric's."""
    for name, key in _METRICS:
        if name.search(quote.before):
            named = [fact for fact in facts if key.search(fact.path)]
            # A text that may be quoted (question, search result) names no paths, so it stays allowed.
            return [*named, *(fact for fact in facts if not fact.path)] if named else facts
    if _TRADES_AFTER.match(quote.after) and not quote.unit:
        named = [fact for fact in facts if _TRADES_KEY.search(fact.path)]
        return [*named, *(fact for fact in facts if not fact.path)] if named else facts
    return facts


def _matches(quote: Quote, value: float, digits: int, fact: Fact) -> bool:
    if not _sign_agrees(quote, fact):
        return False
    tolerance = 0.5 * 10.0**-digits
    is_rough = bool(_ABOUT_BEFORE.search(quote.before))
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
    if quote.unit in _PERCENT_UNITS or quote.unit in _POINT_UNITS:
        if not is_fraction:
            yield fact.value
        if not is_percent and abs(fact.value) <= 100:
            yield fact.value * 100
        return
    if quote.unit in _BASIS_UNITS:
        yield fact.value if "bps" in key or "basis" in key else fact.value * (100 if is_percent else 10_000)
        return
    yield fact.value
    if is_percent:
        yield fact.value / 100
    if (unit := _TIME_UNIT.match(quote.after)) and (key_ms := _key_unit_ms(fact.key)):
        yield fact.value * key_ms / _UNITS_MS[unit.group(1).lower()]


def _key_unit_ms(key: str) -> float | None:
    return next((factor for ending, factor in _KEY_UNITS_MS.items() if key.endswith(ending)), None)


def _sign_agrees(quote: Quote, fact: Fact) -> bool:
    if fact.value == 0 or not fact.path:
        return True
    is_loss = bool(_LOSS_KEY.search(fact.path))
    if quote.sign == "+":
        return fact.value > 0
    if quote.sign == "-":
        return fact.value < 0 or is_loss
    if fact.value < 0 and _GAIN_WORDS.search(quote.before):
        return False
    return not (fact.value > 0 and not is_loss and not _is_count(fact) and _LOSS_WORDS.search(quote.before))


def _is_count(fact: Fact) -> bool:
    return float(fact.value).is_integer()


def _needs_no_fact(quote: Quote) -> bool:
    value, digits = quote.readings[0]
    if digits or quote.unit or quote.sign or quote.is_money:
        return False
    if value <= _MOST_OFFERED and _COUNT_OF_OFFERED.match(quote.after):
        return True
    is_year = _TEXT_DATES_FIRST_YEAR <= value <= _TEXT_DATES_LAST_YEAR and len(quote.shown) == 4
    return is_year and not re.match(
        r"\s*(?:[a-z]+\s+)?(?:trades?|bars?|days?|usdt?|dollars|points?|contracts|candles?)\b",
        quote.after,
        re.IGNORECASE,
    )


def _quotes(text: str) -> Iterator[Quote]:
    for found in _NUMBER.finditer(text):
        yield _quote(found, text)
    for found in _WORD_NUMBER.finditer(text):
        value = _word_value(found.group("words"))
        after = (found.group("after") or "").strip(" -").lower()
        is_percent = after in {"percent", "per cent"} or after.startswith("percentage")
        if after or value > _MOST_PLAIN_WORD:
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
    scale = _SCALES.get(unit, 1.0)
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
    whole = re.sub(rf"[,'_ {_SPACES}]", "", found.group("whole"))
    decimals = found.group("decimals") or ""
    exponent = int(found.group("exponent") or 0)
    yield float(f"{whole}.{decimals or 0}e{exponent}"), len(decimals) - exponent
    if re.fullmatch(r"\d{1,3},\d{3}", found.group("whole")) and not decimals:
        yield float(found.group("whole").replace(",", ".")), 3


def _word_value(words: str) -> int:
    total = current = 0
    for word in re.split(r"[ -]", words.lower()):
        if word in _MULTIPLIERS:
            current = max(1, current) * _MULTIPLIERS[word]
            if _MULTIPLIERS[word] >= 1_000:
                total, current = total + current, 0
        elif word in _WORD_VALUES:
            current += _WORD_VALUES[word]
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

    return _WRITTEN_DATE.sub(written, _ISO.sub(iso, text)), wrong


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
        is_short = re.fullmatch(r"[A-Za-z]{1,6}_?\d{1,3}", name) is not None and not _LOOKS_LIKE_METRIC.match(name)
        return " " * len(name) if is_known or is_short else re.sub(r"[A-Za-z_]", " ", name)

    return _NAME_WITH_DIGITS.sub(judge, text)


_LOOKS_LIKE_METRIC = re.compile(r"sharpe|usd|profit|return|trades|x\d", re.IGNORECASE)


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
    for found in _NUMBER.finditer(_ISO.sub(" ", text)):
        sign = -1.0 if (found.group("sign") or "") in {"-", "−"} else 1.0
        unit = (found.group("unit") or "").lower()
        for value, _ in _readings(found):
            yield sign * value * _SCALES.get(unit, 1.0), unit in _PERCENT_UNITS
    for found in _NAME_WITH_DIGITS.finditer(text):
        for digits in re.findall(r"\d+", found.group(0)):
            yield float(digits), False


def _days_in(text: str) -> list[str]:
    return [found.group(0)[:10] for found in _ISO.finditer(text) if found.group(3)]
