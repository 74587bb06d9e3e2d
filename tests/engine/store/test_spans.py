import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.store.spans import CoverageSpan, Gap, absent, lay_over, recheck_gaps, subtract, union

spans = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair)))


def members(parts):
    return {at for low, high in parts for at in range(low, high)}


@given(spans, st.lists(spans))
def test_subtracting_leaves_exactly_the_members_no_part_has(whole, parts):
    left = subtract(whole, parts)
    assert members(left) == members([whole]) - members(parts)
    assert left == union(left)


@given(st.lists(spans))
def test_a_union_has_all_members_once_and_nothing_touches(parts):
    joined = union(parts)
    assert members(joined) == members(parts)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(joined))


@given(st.lists(st.tuples(spans, st.sampled_from(["bybit", "imported"]))))
def test_coverage_remembers_for_every_moment_who_answered_last(answers):
    coverage: list[CoverageSpan] = []
    oracle: dict[int, str] = {}
    for (low, high), source in answers:
        coverage = lay_over(coverage, CoverageSpan(low, high, source))
        oracle.update(dict.fromkeys(range(low, high), source))
    assert {at: span.source for span in coverage for at in range(span.start_ms, span.end_ms)} == oracle
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(coverage))
    assert all(a.end_ms < b.start_ms or a.source != b.source for a, b in itertools.pairwise(coverage))


def test_absent_bars_are_found_at_both_ends_and_inside():
    opens = np.array([2, 3, 6], np.int64) * 60_000
    assert absent("1", opens, 0, 8 * 60_000) == [(0, 120_000), (240_000, 360_000), (420_000, 480_000)]


def test_absent_months_follow_the_calendar():
    january, march, april = 1_704_067_200_000, 1_709_251_200_000, 1_711_929_600_000
    february = 1_706_745_600_000
    assert absent("M", np.array([january, march], np.int64), january, april) == [(february, march)]


def test_a_gap_that_persists_keeps_the_time_it_was_first_seen_and_a_filled_part_goes():
    known = [Gap(10, 20, 1, 1)]
    assert recheck_gaps(known, (12, 16), [(14, 16)], 9) == [Gap(10, 12, 1, 1), Gap(14, 20, 1, 1)]
    assert recheck_gaps(known, (10, 20), [(10, 15)], 9) == [Gap(10, 15, 1, 9)]
    assert recheck_gaps([], (0, 5), [(0, 5)], 3) == [Gap(0, 5, 3, 3)]
