"""Rows of one answer: what is kept, what is dropped, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.candles import Candles
from engine.errors import BadPayload
from engine.market.rows import RowRules, merge, read_rows

MINUTE = 60_000
TRADES = RowRules("linear", "trade", "1")
PREMIUMS = RowRules("linear", "premium", "1")
GOOD = ["60000", "100", "107", "99", "101", "2.5", "250"]


def replaced(index: int, value: Any) -> list[Any]:
    return [value if position == index else cell for position, cell in enumerate(GOOD)]


@pytest.mark.parametrize(
    "row",
    [
        GOOD[:6],
        [*GOOD, "1"],
        "60000",
        {"0": 1},
        None,
        replaced(1, 100.0),
        replaced(1, None),
        replaced(1, "nan"),
        replaced(1, "1_0"),
        replaced(1, ""),
        replaced(1, "1e999"),
        replaced(1, "--1"),
        replaced(0, "6e4"),
        replaced(0, "99999999999999999999"),
        replaced(0, "60001"),
        replaced(1, "0"),
        replaced(3, "-5"),
        replaced(2, "100.5"),
        replaced(3, "100.5"),
        replaced(2, "98"),
        replaced(5, "-1"),
        replaced(6, "-1"),
    ],
)
def test_an_impossible_row_spoils_the_answer(row: Any) -> None:
    with pytest.raises(BadPayload, match="cannot be trusted"):
        read_rows([GOOD, row], TRADES, 0, 10 * MINUTE)


def test_numbers_survive_exactly() -> None:
    row = ["60000", "1e-8", "0.00000123456789", "1E-8", "0.00000002", "0", "0"]
    candles, notes = read_rows([row], TRADES, 0, 10 * MINUTE)
    values = [column[0] for column in candles.columns()[1:]]
    assert [Decimal(repr(float(value))) for value in values] == [Decimal(cell) for cell in row[1:]]
    assert notes == ()


@given(
    cells=st.lists(
        st.one_of(
            st.floats(1e-8, 1e12).map(repr),
            st.decimals(0, 10**17, allow_nan=False).map(str),
            st.sampled_from(["0.1", "1.", "+1", ".5", "007", "1e-8", "72057594037927935", "9007199254740993"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_printed_number_becomes_the_nearest_float(cells: list[str]) -> None:
    rows = [[str(index * MINUTE), cell, cell, cell, cell] for index, cell in enumerate(cells)]
    candles, _ = read_rows(rows, PREMIUMS, 0, 2**53)
    assert candles.close.tolist() == [float(cell) for cell in cells]


def test_a_premium_may_be_negative_and_open_outside_its_range() -> None:
    candles, _ = read_rows([["60000", "-0.000587", "-0.000344", "-0.000480", "-0.000344"]], PREMIUMS, 0, MINUTE * 2)
    assert candles.open.tolist() == [-0.000587]
    assert np.isnan(candles.volume).all()
    assert np.isnan(candles.turnover).all()
    with pytest.raises(BadPayload, match="below its low"):
        read_rows([["60000", "0", "-0.5", "-0.4", "0"]], PREMIUMS, 0, MINUTE * 2)


def test_turnover_in_coin_is_understood_on_inverse_contracts() -> None:
    inverse = ["60000", "100", "107", "99", "101", "250", "2.5"]
    assert read_rows([inverse], RowRules("inverse", "trade", "1"), 0, MINUTE * 2)[1] == ()
    assert read_rows([inverse], TRADES, 0, MINUTE * 2)[1] == ("1 bar's turnover does not fit its volume",)


def test_a_bar_that_opens_away_from_the_previous_close_is_remarked() -> None:
    rows = [["120000", "100", "107", "99", "101", "0", "0"], GOOD]
    assert read_rows(rows, TRADES, 0, 10 * MINUTE)[1] == ("1 bar opens away from the previous close",)


@pytest.mark.parametrize(
    ("interval", "ts", "good"),
    [
        ("D", 86_400_000, True),
        ("D", 86_400_000 + 3_600_000, False),
        ("W", 4 * 86_400_000, True),
        ("W", 7 * 86_400_000, False),
        ("M", 1_709_251_200_000, True),
        ("M", 1_709_251_200_000 + 86_400_000, False),
        ("240", 14_400_000, True),
        ("240", 3_600_000, False),
    ],
)
def test_bars_open_on_the_grid_of_their_interval(interval: Any, ts: int, good: bool) -> None:
    rules = RowRules("linear", "mark", interval)
    row = [str(ts), "1", "1", "1", "1"]
    if good:
        assert read_rows([row], rules, 0, 2**53)[0].ts.tolist() == [ts]
    else:
        with pytest.raises(BadPayload, match="grid"):
            read_rows([row], rules, 0, 2**53)


def test_one_bar_with_two_values_spoils_the_answer() -> None:
    with pytest.raises(BadPayload, match="twice with different values"):
        read_rows([GOOD, replaced(4, "102")], TRADES, 0, 10 * MINUTE)


def test_an_answer_wholly_outside_the_window_is_refused() -> None:
    with pytest.raises(BadPayload, match="outside the window"):
        read_rows([GOOD], TRADES, 10 * MINUTE, 20 * MINUTE)


@given(data=st.data())
def test_shuffled_repeated_and_foreign_rows_give_the_true_page(row_of: Callable[..., list[str]], data: Any) -> None:
    count = data.draw(st.integers(1, 40))
    start, end = 1000 * MINUTE, (1000 + count) * MINUTE
    present = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    true_rows = [row_of(start + index * MINUTE) for index in sorted(present)]
    repeats = data.draw(st.lists(st.sampled_from(true_rows), max_size=10))
    foreign = [
        row_of(ts * MINUTE)
        for ts in data.draw(st.lists(st.one_of(st.integers(1, 999), st.integers(1000 + count, 3000)), max_size=10))
    ]
    candles, notes = read_rows(data.draw(st.permutations(true_rows + repeats + foreign)), TRADES, start, end)
    expected = np.array([[float(cell) for cell in row] for row in true_rows])
    assert np.array_equal(np.column_stack(candles.columns()), expected)
    assert any("repeated" in note for note in notes) == bool(repeats)
    assert any("outside" in note for note in notes) == bool(foreign)


def test_merging_lets_the_newer_reading_win() -> None:
    def made(*pairs: tuple[int, float]) -> Candles:
        ts = np.array([ts for ts, _ in pairs], np.int64)
        values = np.array([value for _, value in pairs])
        return Candles(ts, *([values] * 6))

    merged, changed = merge(made((1, 1.0), (3, 3.0), (4, 4.0)), made((2, 2.0), (3, 9.0), (4, 4.0)))
    assert (merged.ts.tolist(), merged.close.tolist(), changed) == ([1, 2, 3, 4], [1.0, 2.0, 9.0, 4.0], 1)
    assert merge(Candles.empty(), made((1, 1.0)))[0].ts.tolist() == [1]
