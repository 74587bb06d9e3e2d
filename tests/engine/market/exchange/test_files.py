"""Replay of candle files: byte for byte, gaps and all, and clear words about files that cannot be served."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from engine.errors import BadRequest
from engine.market.exchange import SimulatedExchange
from engine.market.exchange.files import number_text

MINUTE, HOUR = 60_000, 3_600_000
T0 = 1_700_006_400_000
LATER = 1_732_292_345_678


def made_up(bars: int = 100, step: int = MINUTE, begin: int = T0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    first = np.concatenate(([100.0], close[:-1]))
    return {
        "ts": begin + np.arange(bars) * step,
        "open": first,
        "high": np.maximum(first, close) * (1 + rng.random(bars) / 100),
        "low": np.minimum(first, close) * (1 - rng.random(bars) / 100),
        "close": close,
        "volume": rng.random(bars) * 1e-7,
    }


def write_parquet(path: Path, columns: dict[str, np.ndarray]) -> None:
    parquet.write_table(pa.table(columns), path)


def write_csv(path: Path, columns: dict[str, Any]) -> None:
    lines = [",".join(columns), *(",".join(str(value) for value in row) for row in zip(*columns.values(), strict=True))]
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def served(folder: Path, now_ms: int = LATER) -> Callable[..., Any]:
    exchange = SimulatedExchange(data=folder, clock_ms=lambda: now_ms)

    async def asked(path: str, **parameters: object) -> list[Any]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(exchange), base_url="http://exchange") as client:
            answer = await client.get(f"/v5/market/{path}", params=parameters)
        assert answer.headers["X-Bst-Exchange"] == "replay"
        assert answer.json()["retCode"] == 0, answer.text
        return answer.json()["result"]["list"]

    return asked


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz"])
async def test_every_double_of_a_file_survives(tmp_path: Path, suffix: str) -> None:
    columns = made_up()
    path = tmp_path / f"ABCUSDT_linear_1.{suffix}"
    if suffix == "parquet":
        write_parquet(path, columns)
    else:
        write_csv(path, {name: [repr(value) for value in column.tolist()] for name, column in columns.items()})
    rows = (await served(tmp_path)("kline", symbol="ABCUSDT", interval=1, limit=1000))[::-1]
    assert [int(row[0]) for row in rows] == columns["ts"].tolist()
    for place, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
        assert np.array([float(row[place]) for row in rows]).tobytes() == columns[name].tobytes()
    assert {row[6] for row in rows} == {"0"}
    assert not any("e" in text for row in rows for text in row)


@given(st.floats(min_value=1e-12, max_value=1e15, allow_nan=False))
def test_a_printed_number_reads_back_as_the_same_double_and_has_no_exponent(value: float) -> None:
    text = number_text(value)
    assert float(text) == value
    assert "e" not in text


async def test_turnover_and_iso_times_of_a_file_are_served(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "ABCUSDT_spot_60.csv",
        {"time": ["2024-01-01T00:00:00Z", "2024-01-01 01:00:00+00:00"], "open": [1, 2], "high": [3, 3], "low": [0.5, 1],
         "close": [2, 3], "volume": [10, 0], "turnover": [19.5, 0]},
    )  # fmt: skip
    rows = await served(tmp_path)("kline", category="spot", symbol="ABCUSDT", interval=60)
    assert rows == [
        ["1704070800000", "2", "3", "1", "3", "0", "0"],
        ["1704067200000", "1", "3", "0.5", "2", "10", "19.5"],
    ]


async def test_longer_candles_are_aggregated_where_the_file_spans_them(tmp_path: Path) -> None:
    columns = made_up(bars=200, begin=T0 + 7 * MINUTE)
    keep = np.ones(200, dtype=bool)
    keep[60:70] = False
    columns = {name: column[keep] for name, column in columns.items()}
    write_parquet(tmp_path / "ABCUSDT_linear_1.parquet", columns)
    asked = served(tmp_path)
    minutes = await asked("kline", symbol="ABCUSDT", interval=1, limit=1000)
    assert len(minutes) == 190
    quarters = (await asked("kline", symbol="ABCUSDT", interval=15, limit=1000))[::-1]
    opens = [int(row[0]) for row in quarters]
    # Minutes 7 to 206 span the quarters that open at minutes 15 to 180.
    assert opens == [T0 + step * 15 * MINUTE for step in range(1, 13)]
    for row in quarters:
        inside = (columns["ts"] >= int(row[0])) & (columns["ts"] < int(row[0]) + 15 * MINUTE)
        expected = [
            columns["open"][inside][0], columns["high"][inside].max(), columns["low"][inside].min(),
            columns["close"][inside][-1],
        ]  # fmt: skip
        assert [float(text) for text in row[1:5]] == expected
        assert float(row[5]) == pytest.approx(columns["volume"][inside].sum())
    assert await asked("kline", symbol="ABCUSDT", interval="D") == []


async def test_a_shorter_interval_or_another_kind_than_the_file_has_no_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path / "ABCUSDT_linear_5.parquet", made_up(step=5 * MINUTE))
    asked = served(tmp_path)
    assert await asked("kline", symbol="ABCUSDT", interval=1) == []
    assert await asked("kline", symbol="ABCUSDT", interval=3) == []
    assert await asked("mark-price-kline", symbol="ABCUSDT", interval=5) == []
    for path, extra in (
        ("open-interest", {"intervalTime": "1h"}),
        ("account-ratio", {"period": "1h"}),
        ("recent-trade", {}),
        ("funding/history", {}),
    ):
        assert await asked(path, category="linear", symbol="ABCUSDT", **extra) == []


async def test_a_clock_inside_the_file_hides_what_has_not_closed(tmp_path: Path) -> None:
    columns = made_up(bars=120)
    write_parquet(tmp_path / "ABCUSDT_linear_1.parquet", columns)
    asked = served(tmp_path, now_ms=T0 + 70 * MINUTE + 30_000)
    minutes = await asked("kline", symbol="ABCUSDT", interval=1, limit=1000)
    assert int(minutes[0][0]) == T0 + 69 * MINUTE
    growing, first = await asked("kline", symbol="ABCUSDT", interval=60)
    assert (int(growing[0]), int(first[0])) == (T0 + HOUR, T0)
    assert float(growing[4]) == columns["close"][69]
    assert float(growing[2]) == columns["high"][60:70].max()
    assert float(first[4]) == columns["close"][59]
    ticker = (await asked("tickers", category="linear", symbol="ABCUSDT"))[0]
    assert float(ticker["lastPrice"]) == columns["close"][69]
    assert (ticker["markPrice"], ticker["fundingRate"], ticker["bid1Price"]) == ("", "", "")


async def test_a_manifest_names_files_kinds_and_trading_rules(tmp_path: Path) -> None:
    write_parquet(tmp_path / "bars.parquet", made_up())
    write_parquet(tmp_path / "mark.parquet", made_up())
    write_csv(tmp_path / "rates.csv", {"ts": [T0, T0 + 8 * HOUR], "funding_rate": [0.0001, -0.00012345]})
    series = {"symbol": "ABCUSDT", "category": "linear"}
    files = [
        {"file": "bars.parquet", "interval": "1", "tick_size": "0.05", "lot_step": "0.1", "max_leverage": "50"}
        | series,
        {"file": "mark.parquet", "interval": "1", "kind": "mark"} | series,
        {"file": "rates.csv", "kind": "funding"} | series,
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    asked = served(tmp_path)
    instrument = (await asked("instruments-info", category="linear"))[0]
    assert instrument["priceFilter"]["tickSize"] == "0.05"
    assert instrument["lotSizeFilter"]["qtyStep"] == "0.1"
    assert instrument["leverageFilter"]["maxLeverage"] == "50"
    assert instrument["launchTime"] == str(T0)
    assert len((await asked("mark-price-kline", symbol="ABCUSDT", interval=1, limit=5))[0]) == 5
    funding = await asked("funding/history", category="linear", symbol="ABCUSDT")
    assert [(row["fundingRateTimestamp"], row["fundingRate"]) for row in funding] == [
        (str(T0 + 8 * HOUR), "-0.00012345"), (str(T0), "0.0001"),
    ]  # fmt: skip


def test_files_with_other_names_are_noted_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_parquet(tmp_path / "ABCUSDT_linear_1.parquet", made_up())
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        SimulatedExchange(data=tmp_path)
    assert "notes.txt" in caplog.text


def swapped(columns: dict[str, np.ndarray]) -> None:
    columns["ts"][[3, 4]] = columns["ts"][[4, 3]]


def doubled(columns: dict[str, np.ndarray]) -> None:
    columns["ts"][4] = columns["ts"][3]


def shifted(columns: dict[str, np.ndarray]) -> None:
    columns["ts"] += 1000


def impossible(columns: dict[str, np.ndarray]) -> None:
    columns["low"][7] = columns["high"][7] * 2


def unknown(columns: dict[str, np.ndarray]) -> None:
    columns["close"][7] = np.nan


def nameless(columns: dict[str, np.ndarray]) -> None:
    columns["when"] = columns.pop("ts")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (swapped, "goes back in time at (line 6|row 5)"),
        (doubled, "repeats a bar at (line 6|row 5)"),
        (shifted, "(line 2|row 1) opens at"),
        (impossible, "(line 9|row 8) is no candle .*: open .*, high .*, low .*, close"),
        (unknown, "empty or infinite numbers in column 'close'"),
        (nameless, "has no times"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_its_row(
    tmp_path: Path, break_it: Callable[[dict[str, np.ndarray]], None], words: str
) -> None:
    columns = made_up()
    break_it(columns)
    write_parquet(tmp_path / "ABCUSDT_linear_1.parquet", columns)
    with pytest.raises(BadRequest, match=words):
        SimulatedExchange(data=tmp_path)


def test_what_is_no_parquet_file_folder_or_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no candle files"):
        SimulatedExchange(data=tmp_path)
    with pytest.raises(BadRequest, match="is not a folder"):
        SimulatedExchange(data=tmp_path / "none")
    (tmp_path / "ABCUSDT_linear_1.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(BadRequest, match="is not a Parquet file"):
        SimulatedExchange(data=tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": [{"file": "x"}]}', encoding="utf-8")
    with pytest.raises(BadRequest, match=r"manifest\.json is not valid at files\.0"):
        SimulatedExchange(data=tmp_path)


async def test_real_bars_are_served_byte_for_byte(shared_folder: Path, tmp_path: Path) -> None:
    source = shared_folder / "data" / "xrpusdt_perp_5m_2021-11.parquet"
    (tmp_path / "XRPUSDT_linear_5.parquet").write_bytes(source.read_bytes())
    table = parquet.read_table(source)
    asked = served(tmp_path)
    begin, rows = int(table["ts"][0].as_py()), []
    while page := (await asked("kline", symbol="XRPUSDT", interval=5, start=begin, limit=1000))[::-1]:
        rows += page
        begin = int(page[-1][0]) + 5 * MINUTE
    assert [int(row[0]) for row in rows] == table["ts"].to_pylist()
    for place, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
        assert [float(row[place]) for row in rows] == table[name].to_pylist()
