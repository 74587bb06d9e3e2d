"""Smells in strategy code written elsewhere, Python or Pine: use of the future, repainting, missing costs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engine.analysis.figures import Brief
from engine.errors import BadRequest

Language = Literal["python", "pine"]
MOST_CHARACTERS = 40_000
MOST_FINDINGS = 20
_LONGEST_EXCERPT = 80


@dataclass(frozen=True, slots=True)
class Smell:
    """A pattern of text and what is wrong with it."""

    pattern: re.Pattern[str]
    severity: Literal["high", "medium", "low"]
    kind: str
    problem: str
    suggestion: str


def _smell(pattern: str, severity: Literal["high", "medium", "low"], kind: str, problem: str, suggestion: str) -> Smell:
    return Smell(re.compile(pattern), severity, kind, problem, suggestion)


_PINE = (
    _smell(r"lookahead_on|lookahead\s*=\s*true", "high", "look-ahead", "the higher timeframe shows values that were not known yet", "use lookahead_off, and [1] on the requested series"),
    _smell(r"\[\s*-\s*\d+\s*\]", "high", "look-ahead", "a negative offset reads the future", "use offsets of 0 and more"),
    _smell(r"(?:request\.)?security(?:_lower_tf)?\s*\((?!.*\[1\])", "medium", "repainting", "the current higher-timeframe bar changes until it closes", "request the series with [1], or use tf() in our language"),
    _smell(r"calc_on_every_tick\s*=\s*true|calc_on_order_fills\s*=\s*true", "high", "repainting", "history is computed on closes, real time on ticks: they differ", "leave it off"),
    _smell(r"process_orders_on_close\s*=\s*true", "medium", "execution", "orders fill at the close that decided them", "fill at the next open"),
    _smell(r"\bvarip\b|barstate\.isrealtime|\btimenow\b", "medium", "repainting", "behaves differently in real time and in history", "decide on closed bars only"),
    _smell(r"(?:ta\.)?pivot(?:high|low)\s*\(", "medium", "repainting", "a pivot is known only after its right-hand bars", "act right-hand bars later, and do not plot it back"),
    _smell(r"ta\.zigzag|zigzag\s*\(", "high", "repainting", "zigzag moves its last point when new bars come", "do not trade on its last leg"),
    _smell(r"offset\s*=\s*-\d", "low", "repainting", "a plot is moved into the past and looks earlier than it was known", "plot without offset"),
)  # fmt: skip

_PYTHON_TEXT = (
    _smell(r"\.shift\(\s*(?:periods\s*=\s*)?-\s*\d", "high", "look-ahead", "a negative shift brings the future into this row", "shift by 1 and more"),
    _smell(r"np\.roll\([^)]*,\s*-\s*\d", "high", "look-ahead", "a negative roll brings the future into this row", "shift by 1 and more"),
    _smell(r"\.(?:diff|pct_change)\(\s*(?:periods\s*=\s*)?-\s*\d", "high", "look-ahead", "a negative period compares with the future", "use positive periods"),
    _smell(r"center\s*=\s*True", "high", "look-ahead", "a centred window reads as many future rows as past ones", "leave center off"),
    _smell(r"\.bfill\(|method\s*=\s*[\"']b(?:ack)?fill[\"']|\.backfill\(", "high", "look-ahead", "gaps are filled from the future", "use ffill"),
    _smell(r"\.interpolate\(", "medium", "look-ahead", "interpolation draws a line to a later value", "use ffill"),
    _smell(r"direction\s*=\s*[\"'](?:forward|nearest)[\"']", "high", "look-ahead", "the join takes later rows", "use direction='backward'"),
    _smell(r"\[\s*::\s*-\s*1\s*\]|sort_(?:index|values)\([^)]*ascending\s*=\s*False", "medium", "look-ahead", "time runs backwards: rolling windows then read the future", "sort ascending before computing"),
    _smell(r"train_test_split\((?![^)]*shuffle\s*=\s*False)", "high", "look-ahead", "a shuffled split trains on the future", "split by time, purge the border"),
    _smell(r"\b(?:KFold|StratifiedKFold|cross_val_score|GridSearchCV)\(", "medium", "look-ahead", "folds that ignore time train on the future", "use walk-forward or purged folds"),
    _smell(r"\bfind_peaks\(|\bargrel(?:extrema|max|min)\(|savgol_filter\(|\bfiltfilt\(", "high", "look-ahead", "peaks and two-sided filters look at both sides of a row", "use one-sided filters and act when the right side is known"),
    _smell(r"(?<![\w.])(?:rank|scale|zscore|StandardScaler|MinMaxScaler)\(", "medium", "look-ahead", "scaled with figures of the whole sample", "scale with past rows only"),
    _smell(r"\.resample\(", "low", "look-ahead", "a resampled bar carries the label of its start but is known at its end", "shift the resampled series by one bar before joining"),
)  # fmt: skip

_WHOLE_SAMPLE = ("mean", "std", "max", "min", "median", "quantile", "var")
_COST_WORDS = re.compile(r"fee|commission|slippage|cost", re.IGNORECASE)


def guess_language(code: str) -> Language:
    """Return `pine` for TradingView's language and `python` otherwise."""
    is_pine = re.search(r"//\s*@version|\bstrategy\.(?:entry|exit|close)\b|\bindicator\s*\(|\bta\.\w+\s*\(", code)
    return "pine" if is_pine else "python"


def code_review(code: str) -> Brief:
    """Return the smells of a text of code; nothing of it is run."""
    if not code.strip():
        raise BadRequest("the code is empty", fix="give code, or strategy with a name or a document")
    if len(code) > MOST_CHARACTERS:
        raise BadRequest(
            f"the code has {len(code)} characters", fix=f"give at most {MOST_CHARACTERS}: the part that decides trades"
        )
    language = guess_language(code)
    found = _pine(code) if language == "pine" else _python(code)
    findings = list({(one["line"], one["problem"]): one for one in found}.values())
    order = ("high", "medium", "low")
    findings.sort(key=lambda one: order.index(str(one["severity"])))
    return {
        "kind": f"{language} code",
        "lines": len(code.splitlines()),
        "look_ahead": {
            "possible": any(one["kind"] in ("look-ahead", "repainting") for one in findings),
            "why": "patterns found by reading, nothing was run; no finding is no proof. In the strategy language look-ahead "
            "cannot be written: validate_strategy",
        },
        "findings": findings[:MOST_FINDINGS],
        "findings_in_all": len(findings),
        "flags": [],
    }


def _finding(smell: Smell, line: int, text: str) -> dict[str, object]:
    return {
        "severity": smell.severity,
        "kind": smell.kind,
        "line": line,
        "code": text.strip()[:_LONGEST_EXCERPT],
        "problem": smell.problem,
        "suggestion": smell.suggestion,
    }


def _by_text(code: str, smells: tuple[Smell, ...], comment: str) -> Iterator[dict[str, object]]:
    for number, line in enumerate(code.splitlines(), 1):
        written = line.partition(comment)[0]
        for smell in smells:
            if smell.pattern.search(written):
                yield _finding(smell, number, line)


def _pine(code: str) -> Iterator[dict[str, object]]:
    yield from _by_text(code, _PINE, "//")
    declared = re.search(r"\bstrategy\s*\(", code)
    if declared and "commission_value" not in code:
        line = code[: declared.start()].count("\n") + 1
        smell = _smell(
            "",
            "medium",
            "costs",
            "no commission is set, so the report is gross",
            "set commission_type, commission_value and slippage",
        )
        yield _finding(smell, line, code.splitlines()[line - 1])


def _python(code: str) -> Iterator[dict[str, object]]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or 1
        smell = _smell(
            "",
            "high",
            "language",
            f"it is not valid Python: {getattr(error, 'msg', 'cannot be read')}",
            "mend it, or hand in the whole block",
        )
        lines = code.splitlines()
        yield _finding(smell, line, lines[line - 1] if line <= len(lines) else "")
        yield from _by_text(code, _PYTHON_TEXT, "#")
        return
    yield from _by_text(code, _PYTHON_TEXT, "#")
    lines = code.splitlines()
    shifted = _shifted_names(tree)
    for node in ast.walk(tree):
        smell = _smell_of(node, shifted)
        if smell is not None:
            number = int(getattr(node, "lineno", 1))
            yield _finding(smell, number, lines[number - 1])
    if not _COST_WORDS.search(code) and re.search(r"return|pnl|profit|equity|signal", code):
        smell = _smell(
            "",
            "medium",
            "costs",
            "no fee, commission or slippage is charged anywhere",
            "charge taker fees and slippage on every fill",
        )
        yield _finding(smell, 1, lines[0])


def _smell_of(node: ast.AST, shifted: frozenset[str]) -> Smell | None:
    if isinstance(node, ast.Subscript) and _reads_ahead(node.slice):
        return _smell(
            "",
            "high",
            "look-ahead",
            "an index beyond the current row reads the future",
            "decide on row i and earlier, act on i + 1",
        )
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ("iloc", "values")
    ):
        index = node.slice
        if isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub):
            return _smell(
                "",
                "medium",
                "look-ahead",
                "the last row of the whole table is the end of history, not the row being decided",
                "index by the current row",
            )
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Sub, ast.Div)) and _whole_sample(node.right):
        return _smell(
            "",
            "medium",
            "look-ahead",
            "normalised with a figure of the whole sample, later rows included",
            "use rolling or expanding figures",
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and _same_bar(node, shifted):
        return _smell(
            "",
            "high",
            "execution",
            "a signal earns the return of the bar that made it",
            "shift the signal by one bar before multiplying",
        )
    return None


def _reads_ahead(index: ast.expr) -> bool:
    """Say whether an index is a loop variable plus a positive number."""
    return (
        isinstance(index, ast.BinOp)
        and isinstance(index.op, ast.Add)
        and isinstance(index.left, ast.Name)
        and isinstance(index.right, ast.Constant)
        and isinstance(index.right.value, int)
        and index.right.value > 0
    )


def _whole_sample(node: ast.expr) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WHOLE_SAMPLE):
        return False
    # df.rolling(20).mean() and df.expanding().std() know the past only.
    return not any(
        isinstance(part, ast.Attribute) and part.attr in ("rolling", "expanding", "ewm", "groupby")
        for part in ast.walk(node.func)
    )


def _shifted_names(tree: ast.AST) -> frozenset[str]:
    """Return the names that are given a shifted value somewhere."""
    return frozenset(
        _name_of(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "shift" in _name_of(node.value)
        for target in node.targets
    )


def _same_bar(node: ast.BinOp, shifted: frozenset[str]) -> bool:
    names = [_name_of(side) for side in (node.left, node.right)]
    if shifted.intersection(names):
        return False
    signal = any(re.search(r"signal|position|pos$|holding", name) for name in names)
    earned = any(re.search(r"ret|pct_change|change", name) for name in names)
    return signal and earned and not any("shift" in name for name in names)


def _name_of(node: ast.expr) -> str:
    return " ".join(
        part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else str(part.value)
        for part in ast.walk(node)
        if isinstance(part, (ast.Name, ast.Attribute))
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
    ).lower()
