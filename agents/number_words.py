"""The words and patterns by which figures in a text are told apart: units, dates, metrics, gains and losses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

ABOUT = r"(?:about|around|roughly|approximately|nearly|almost|some|circa|ca\.?|just (?:over|under)|over|under|above|below|more than|less than|at least|up to|≈|~)"
SPACES = "\u00a0\u2009\u202f"
NUMBER = re.compile(
    rf"(?<![\w.,])(?P<sign>[+\-−–±])?(?P<currency>[$€£₽]\s?)?"
    rf"(?P<whole>\d{{1,3}}(?:[,'_ {SPACES}]\d{{3}})+(?!\d)|\d+)(?:(?P<point>[.,])(?P<decimals>\d+))?"
    rf"(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?"
    rf"(?:[ {SPACES}]?(?P<unit>%|percentage points?|percent|per cent|процент\w*|pp\b|bps\b|bp\b|basis points?|k\b|K\b|m\b(?!\w)|M\b|mn\b|million|bn\b|B\b|billion|thousand|x\b|×))?",
)
MONTHS = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
ISO = re.compile(
    r"\b(\d{4})-(\d{2})(?:-(\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?)?(?![\d-])"
)
WRITTEN_DATE = re.compile(
    rf"\b(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?P<month>{MONTHS})\.?,?\s+(?P<year>\d{{4}})"
    rf"|(?P<month2>{MONTHS})\.?\s+(?:(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?,?\s+)?(?P<year2>\d{{4}})"
    rf"|(?P<day3>\d{{1,2}})[./](?P<month3>\d{{1,2}})[./](?P<year3>\d{{4}}))\b",
    re.IGNORECASE,
)
PASSED_OVER = re.compile(
    r"https?://\S+"
    r"|\b\d{1,2}:\d{2}(?::\d{2})?\b"
    r"|^[ \t>*-]*\(?\d{1,2}[.)](?=\s)"
    r"|(?<!\w)\(\d{1,2}\)(?=\s+[A-Za-z])"
    r"|\b\d{1,2}(?:st|nd|rd|th)\b"
    r"|\b(?:line|chapter|step|experiment|idea|point|option|reason|scenario|question|item|part|section|figure|table|finding|proposal|test|version|phase|stage|note|rule|шаг|пункт|идея)s?\s*(?:no\.?|number|#)?\s*\d{1,2}\b(?![.,]\d|\s?%)"
    r"|(?<![\w.])(?:1|3|5|15|30)[ -]?(?:min|minutes?|m)\b(?=\s*(?:candles?|bars?|chart|timeframe|interval|data|series|[.,;)]|$))"
    r"|(?<![\w.$€£+-])(?:1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|24/7)\b"
    r"|(?<![\d.,$€£])\b(?:90|95|99)\s?%?[ -](?=confidence|percentile|quantile|credible|interval|level)",
    re.IGNORECASE | re.MULTILINE,
)
NAME_WITH_DIGITS = re.compile(r"(?<![\w.])[A-Za-z_][A-Za-z_]*\d[\w]*(?![.,]?\d)")
OFFERED = (
    r"(?:\w+ )?(?:experiments?|ideas?|weaknesses|reasons?|points?|steps?|ways?|options?|questions?|scenarios?|checks?|tests?|findings?"
    r"|suggestions?|things?|proposals?|remarks?|caveats?|parts?|sources?|kinds?|cases?|issues?|problems?|changes?|recommendations?"
    r"|strategies|runs|эксперимент\w*|иде\w+|причин\w*|вопрос\w*|шаг\w*)\b"
)
COUNT_OF_OFFERED = re.compile(rf"\s+{OFFERED}", re.IGNORECASE)
MOST_OFFERED = 10

UNITS_MS: Mapping[str, float] = {
    "ms": 1.0, "second": 1e3, "minute": 6e4, "hour": 3.6e6, "day": 8.64e7, "week": 6.048e8, "month": 2.6298e9, "year": 3.15576e10,
}  # fmt: skip
KEY_UNITS_MS: Mapping[str, float] = {
    "_ms": 1.0, "_s": 1e3, "_seconds": 1e3, "_minutes": 6e4, "_hours": 3.6e6, "_days": 8.64e7, "_weeks": 6.048e8, "_years": 3.15576e10,
}  # fmt: skip
TIME_UNIT = re.compile(r"[\s-]*(ms|second|minute|hour|day|week|month|year)s?\b", re.IGNORECASE)
SCALES: Mapping[str, float] = {
    "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "b": 1e9, "billion": 1e9,
}  # fmt: skip
PERCENT_UNITS = frozenset(("%", "percent", "per cent"))
POINT_UNITS = frozenset(("percentage point", "percentage points", "pp"))
BASIS_UNITS = frozenset(("bps", "bp", "basis point", "basis points"))

LOSS_KEY = re.compile(
    r"drawdown|loss|losing|worst|cost|fee|slippage|ruin|mae|var|ulcer|down|funding|risk", re.IGNORECASE
)
GAIN_WORDS = re.compile(
    r"\b(?:gain(?:ed|s)?|profits?|profitable|earned|earns?|rose|grew|up|won|made|gains of|profit of|positive|прибыл\w*|вырос\w*)(?:\s+\w+){0,2}\W*$",
    re.IGNORECASE,
)
LOSS_WORDS = re.compile(
    r"\b(?:lost|loses|loss(?:es)?|fell|dropped|declined|down|negative|убыт\w*|упал\w*)(?:\s+\w+){0,2}\W*$",
    re.IGNORECASE,
)
ABOUT_BEFORE = re.compile(rf"{ABOUT}\s*$", re.IGNORECASE)

LINK = rf"(?:\s+ratio)?(?:\s+(?:per year|annualised|annualized))?\W{{0,3}}(?:of|is|was|at|equals|equal to|reached|reaches|came to|stands at|comes to|stood at|being)?\s*(?:only|just|a|an|mere|still)?\s*(?:{ABOUT})?\s*\W{{0,2}}$"
METRICS: Sequence[tuple[re.Pattern[str], re.Pattern[str]]] = tuple(
    (re.compile(rf"\b{name}{LINK}", re.IGNORECASE), re.compile(key, re.IGNORECASE))
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
TRADES_AFTER = re.compile(r"\s+(?:\w+\s+)?(?:trades?|сдел\w+)\b", re.IGNORECASE)
TRADES_KEY = re.compile(r"trade|wins|losses|count|entries|exits|winning|losing", re.IGNORECASE)

WORD_VALUES: Mapping[str, int] = {
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
MULTIPLIERS: Mapping[str, int] = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
WORD_NUMBER = re.compile(
    rf"\b(?P<words>(?:{'|'.join(WORD_VALUES)})(?:[ -](?:{'|'.join([*WORD_VALUES, *MULTIPLIERS])}|and))*)\b"
    r"(?P<after>[ -](?:percent|per cent|percentage points?|times|trades?|days?|weeks?|months?|years?|hours?|minutes?|bars?|losses|wins|losing|winning|closed|dollars|usdt|usd|contracts|basis points?))?",
    re.IGNORECASE,
)
MOST_PLAIN_WORD = 12

# Russian number words in the cases that stand in front of a measure.
RUSSIAN_VALUES: Mapping[str, int] = {
    word: value
    for value, forms in {
        1: "один одна одной одного", 2: "два две двух", 3: "три трёх трех", 4: "четыре четырёх четырех", 5: "пять пяти",
        6: "шесть шести", 7: "семь семи", 8: "восемь восьми", 9: "девять девяти", 10: "десять десяти",
        11: "одиннадцать одиннадцати", 12: "двенадцать двенадцати", 13: "тринадцать тринадцати",
        14: "четырнадцать четырнадцати", 15: "пятнадцать пятнадцати", 16: "шестнадцать шестнадцати",
        17: "семнадцать семнадцати", 18: "восемнадцать восемнадцати", 19: "девятнадцать девятнадцати",
        20: "двадцать двадцати", 30: "тридцать тридцати", 40: "сорок сорока", 50: "пятьдесят пятидесяти",
        60: "шестьдесят шестидесяти", 70: "семьдесят семидесяти", 80: "восемьдесят восьмидесяти",
        90: "девяносто девяноста", 100: "сто ста", 200: "двести двухсот", 300: "триста трёхсот трехсот",
        400: "четыреста четырёхсот четырехсот", 500: "пятьсот пятисот", 600: "шестьсот шестисот", 700: "семьсот семисот",
        800: "восемьсот восьмисот", 900: "девятьсот девятисот",
    }.items()
    for word in forms.split()
}  # fmt: skip
RUSSIAN_MULTIPLIERS: Mapping[str, int] = {
    "тысяча": 1_000, "тысячи": 1_000, "тысяч": 1_000, "миллион": 1_000_000, "миллиона": 1_000_000, "миллионов": 1_000_000,
}  # fmt: skip
_RUSSIAN = "|".join(sorted(RUSSIAN_VALUES, key=len, reverse=True))
RUSSIAN_NUMBER = re.compile(
    rf"\b(?P<words>(?:{_RUSSIAN}|тысяча)(?: (?:{_RUSSIAN}|{'|'.join(RUSSIAN_MULTIPLIERS)}))*)\b"
    r"(?P<after> (?:процент\w*|сдел\w+|убыточн\w+|прибыльн\w+|дн\w+|день|недел\w+|месяц\w*|год\w*|лет|час\w*|минут\w*|бар\w*|раз\w?|доллар\w*|руб\w+|usdt?))?",
    re.IGNORECASE,
)

# Shares and multiples in words, where they can only be a claim about results: a "second half" or "double the costs" is none.
SHARES: Mapping[str, float] = {
    "half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "two thirds": 2 / 3, "three quarters": 3 / 4,
    "половина": 1 / 2, "половину": 1 / 2, "треть": 1 / 3, "четверть": 1 / 4,
}  # fmt: skip
SHARE_OF_RESULT = re.compile(
    r"\b(?:(?:one |an? )?(?P<share>half|third|quarter)|(?P<shares>two[ -]thirds|three[ -]quarters))"
    r" (?:of )?(?:all |the |its |your |all the )(?:\w+ )?(?P<what>trades|capital|account|money|equity|profits?|gains?)\b"
    r"|\b(?P<russian>половин[ау]|треть|четверть) (?:всех )?(?P<what_russian>сделок|капитала|счёта|счета|депозита|прибыли)\b",
    re.IGNORECASE,
)
SHARE_AS_VALUE = re.compile(
    r"\b(?P<name>drawdown|win(?:ning)? rate|(?:total |net )?return|просадка|доходность) (?:was|is|reached|of|equals|составила|составляет|была|достигла) "
    r"(?:(?:only|just) )?(?:an? |one )?(?P<share>half|third|quarter|two[ -]thirds|three[ -]quarters|половину|половина|треть|четверть)\b",
    re.IGNORECASE,
)
SHARE_KEYS: Sequence[tuple[re.Pattern[str], re.Pattern[str]]] = (
    (re.compile(r"trades|win|сделок", re.IGNORECASE), re.compile(r"win_?rate|winners|winning|percent_profitable|wins?_(?:share|fraction)", re.IGNORECASE)),
    (re.compile(r"drawdown|просадка", re.IGNORECASE), re.compile("drawdown", re.IGNORECASE)),
    (re.compile(r"return|доходность", re.IGNORECASE), re.compile("return|cagr|profit", re.IGNORECASE)),
)  # fmt: skip
_STAKE = r"(?:money|capital|account|equity|stake|investment|deposit)"
_TIMES = "two|three|four|five|six|seven|eight|nine|ten|twenty|fifty|hundred"
MULTIPLE = re.compile(
    rf"\b(?P<verb>doubl|tripl|quadrupl)(?:ed|es) (?:the |your |its |my |their )(?:\w+ )?{_STAKE}\b"
    rf"|\b{_STAKE} (?:has |had |was |is )?(?P<verb2>doubl|tripl|quadrupl)ed\b"
    rf"|\b(?P<fold>{_TIMES}|\d+)[ -]?fold (?:total |net )?(?:return|gain|profit|increase|growth|rise)\b"
    r"|\b(?P<russian>удво|утро)ил\w* (?:\w+ )?(?:капитал|деньги|депозит|сч[её]т)\w*",
    re.IGNORECASE,
)
MULTIPLES: Mapping[str, float] = {"doubl": 2, "tripl": 3, "quadrupl": 4, "удво": 2, "утро": 3}
RETURN_KEY = re.compile(r"return", re.IGNORECASE)
# A word before a share or multiple that makes it a comparison, a guess, or a denial.
NO_CLAIM_BEFORE = re.compile(
    r"(?:\b(?:not|never|no|nor|neither|without|hardly|would|could|might|may|if|less than|more than|fewer than|under|over|above|below|at least|at most"
    r"|up to|nearly|almost|about|around|roughly|close to|until|не|менее|более|меньше|больше|почти|около|примерно|если)|n['’]t)(?: \w+){0,2} $",
    re.IGNORECASE,
)

# What follows a name and a colon or an equals sign is the figure of that name.
NAMED_BEFORE = re.compile(
    r"(?:^|[.;,|(*\n•-])[ \t*_`|]*(?P<name>[A-Za-zА-Яа-яЁё_][A-Za-zА-Яа-яЁё_ ]{1,40}?)[ \t*_`]*[:=][ \t*_`]*$",
    re.MULTILINE,
)
RUSSIAN_NAMES: Mapping[str, str] = {
    "сделок": "trades", "сделки": "trades", "баров": "bars", "бары": "bars", "просадка": "drawdown",
}  # fmt: skip
UNIT_ENDINGS = frozenset(("fraction", "percent", "pct", "usdt", "usd", "ms", "bps", "count", "ratio"))
COUNT_NAMES = frozenset(("count", "total", "value", "number", "closed"))

# Figures that everybody may name without a source: calendars, confidence levels, halves and wholes.
COMMON = frozenset(
    (0.0, 0.5, 1.96, 1.645, 2.58, 24.0, 30.0, 52.0, 60.0, 100.0, 250.0, 252.0, 360.0, 365.0, 365.25, 1440.0, 3600.0, 8760.0, 86400.0)
)  # fmt: skip
COMMON_PERCENT = frozenset((0.0, 1.0, 5.0, 10.0, 50.0, 68.0, 90.0, 95.0, 99.0, 99.7, 100.0))
EXAMPLE = re.compile(
    r"\b(?:for example|for instance|e\.g\.|suppose|imagine|assum(?:e|ing)|hypothetical|say,|let's say|например|допустим|предположим|представ\w+)",
    re.IGNORECASE,
)
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")

TEXT_DATES_FIRST_YEAR, TEXT_DATES_LAST_YEAR = 1900, 2100
EARLIEST_TIME_MS, LATEST_TIME_MS = 1.0e12, 4.2e12


LOOKS_LIKE_METRIC = re.compile(r"sharpe|usd|profit|return|trades|x\d", re.IGNORECASE)
