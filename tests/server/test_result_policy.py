import json

from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RateLimited
from server.result_policy import MAX_CHARACTERS, bounded
from tools.failures import as_tool_error, compact, error_object, told_by_resolver


def test_a_small_answer_is_left_alone():
    answer = {"items": [1, 2], "total": 2}
    assert bounded(answer) is answer


def test_a_long_list_is_cut_and_the_cursor_points_at_the_first_row_left_out():
    rows = [{"n": number, "text": "x" * 50} for number in range(2000)]
    cut = bounded({"items": rows, "total": 2000, "next_cursor": None}, "40")
    assert cut["truncated"] is True
    assert cut["total"] == 2000
    assert cut["next_cursor"] == str(40 + len(cut["items"]))
    assert cut["items"] == rows[: len(cut["items"])]


@given(st.lists(st.text(max_size=300), min_size=1, max_size=400), st.dictionaries(st.text(max_size=5), st.integers()))
def test_an_answer_with_a_list_fits_the_cap_and_stays_json(texts: list[str], extra: dict[str, int]):
    answer = {"extra": extra, "rows": texts}
    cut = bounded(answer)
    assert len(compact(cut)) <= MAX_CHARACTERS
    assert json.loads(compact(cut))["rows"] == texts[: len(cut["rows"])]


def test_an_error_survives_the_way_through_a_resolver():
    error = RateLimited('wait "now"', fix="in 3 s", retry_after_s=3.0)
    assert told_by_resolver(f"Error executing tool x: {as_tool_error(error)}") == error_object(error)


@given(st.text())
def test_other_texts_are_not_taken_for_an_error_object(text: str):
    assert told_by_resolver(text) is None
