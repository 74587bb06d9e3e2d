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


def calls(properties: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return argument objects for a tool: its own names with right and wrong values, sometimes foreign names."""
    value = PLAUSIBLE | JSON | st.integers(1, 80).map(deep)
    known = st.fixed_dictionaries({}, optional={name: _fitting(schema) | value for name, schema in properties.items()})
    return known | st.builds(
        lambda own, extra: {**own, **extra}, known, st.dictionaries(st.text(max_size=10), JSON, max_size=2)
    )


def _fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "integer":
        return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 50), 50))
    return PLAUSIBLE
