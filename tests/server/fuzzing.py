"""Arguments no sane caller sends: wrong types, huge numbers, odd text, deep nesting, half-right calls."""

from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False)
    | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=25,
)
PLAUSIBLE = st.sampled_from(
    [
        "BTCUSDT", "btcusdt ", "NOPEUSDT", "ema_cross", "15", "D", "7", "2024-01-01", "2024-01-03", "2024-13-45", "-1",
        "9999-12-31", "run_000000000000", "job_000000000000", "linear", "close", "ema(close, 20) > 1", "((((", "../../x",
        "0", 0, 1, -1, 1.5, 10**18, True, None, [], {}, {"name": "x"}, {"fast": 5}, {"fast": "x"}, [[]], "\u0000", "💥",
    ]
)  # fmt: skip


def deep(levels: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


# Values that get a call past its first checks, by argument name.
LIKELY: dict[str, list[Any]] = {
    "symbol": ["BTCUSDT", "ETHUSDT", "btcusdt", "NOPEUSDT"],
    "start": ["2024-01-01", "2024-01-02T03:04:05Z", "2035-01-01", "0001-01-01"],
    "end": ["2024-01-03", "2024-01-01", "9999-12-31", "2024-02-30"],
    "strategy": ["ema_cross", "buy_and_hold", "nope", "{"],
    "name": ["ema_cross", "sma_cross", "nope"],
    "expression": ["ema(close, 20) > close", "rsi(close, 14)", "close[", "1/0", "close / (close - close)", "((((1))))"],
    "what": ["exports"],
    "document": [{}, {"name": "x", "long_entry": "close > 1"}, {"name": "x", "long_entry": "a(", "params": {"p": "q"}}],
    "params": [{}, {"fast": 5, "slow": 9}, {"fast": -1}, {"fast": 1e300}, {"nope": 1}],
}


def calls(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return argument objects for a tool: nearly right ones, and its own names with any value or foreign names."""
    properties: dict[str, Any] = schema["properties"]
    required = set(schema.get("required", ()))
    value = PLAUSIBLE | JSON | st.integers(1, 80).map(deep)
    wild = st.fixed_dictionaries({}, optional={name: _fitting(name, part) | value for name, part in properties.items()})
    foreign = st.dictionaries(st.text(max_size=10), JSON, max_size=2)
    fitting = {name: _fitting(name, part) for name, part in properties.items()}
    near = st.fixed_dictionaries(
        {name: fitting[name] for name in properties if name in required},
        optional={name: fitting[name] for name in properties if name not in required},
    )
    return near | wild | st.builds(lambda own, extra: {**own, **extra}, wild, foreign)


def _fitting(name: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if name in LIKELY:
        return st.sampled_from(LIKELY[name])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "boolean":
        return st.booleans()
    if schema.get("type") == "integer":
        return st.integers(schema.get("minimum", 0), max(schema.get("minimum", 0), min(schema.get("maximum", 50), 50)))
    if schema.get("type") in ("object", "array"):
        return JSON
    return PLAUSIBLE
