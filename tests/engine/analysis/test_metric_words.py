import json

import numpy as np
import pytest

from engine.analysis.glossary import WORDS
from engine.analysis.metric_words import _OF_DAYS, _OF_TRADES, find_word, metric_brief, metric_interval, resampled_days
from engine.core.metrics import METRICS
from engine.core.timeframes import DAY_MS
from engine.core.validation.sharpe_interval import bootstrap_sharpe_interval
from engine.errors import NotFound


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_is_told_with_its_value_in_a_run(computed, name):
    brief = metric_brief(METRICS[name], computed.run)
    assert brief["value"] == computed.outcome.result["metrics"][name]
    assert brief["formula"] == METRICS[name].definition
    assert brief["convention"] == METRICS[name].convention
    assert (brief["value"] is None) == ("why_no_value" in brief)
    assert (brief["interval_95"] is None) == ("why_no_interval" in brief)
    json.dumps(brief, allow_nan=False)


@pytest.mark.parametrize("name", sorted(_OF_DAYS))
def test_the_facts_of_made_up_days_measure_what_the_engine_measured(computed, name):
    run = computed.run
    elapsed_days = (run.marks_ms[-1] - run.marks_ms[0]) / DAY_MS
    again = METRICS[name].measure(resampled_days(run.capital, run.returns, elapsed_days))
    assert again == pytest.approx(run.metrics[name], rel=1e-9)


@pytest.mark.parametrize("name", sorted(_OF_DAYS | _OF_TRADES - {"risk_expectancy"}))
def test_an_interval_lies_around_the_value(computed, name):
    found = metric_interval(METRICS[name], computed.run, samples=200)
    assert not isinstance(found, str), found
    # A drawdown or a tail of resampled days is biased, so the interval need not hold the value; it must be one.
    assert found.low < found.high


def test_the_interval_of_sharpe_agrees_with_the_bootstrap_of_the_statistics(computed):
    ours = metric_interval(METRICS["sharpe"], computed.run)
    theirs = bootstrap_sharpe_interval(computed.run.returns, np.random.default_rng(11))
    assert not isinstance(ours, str)
    assert ours.low == pytest.approx(theirs.low, abs=0.6)
    assert ours.high == pytest.approx(theirs.high, abs=0.6)


def test_counts_have_no_interval(computed):
    assert (
        metric_interval(METRICS["trades"], computed.run) == "it counts or reports what happened and estimates nothing"
    )


def test_few_trades_have_no_interval(single):
    assert metric_interval(METRICS["expectancy"], single.run) == "1 trades; 10 are needed"


def test_an_undefined_metric_says_why(silent, ruined):
    brief = metric_brief(METRICS["profit_factor"], silent.run)
    assert brief["why_no_value"] == "no trade was closed"
    assert metric_brief(METRICS["sharpe"], ruined.run)["value"] is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("DSR", "deflated_sharpe"), ("PBO", "pbo"), ("SPA", "spa"), ("MinTRL", "min_trl"), ("Sharpe ratio", "sharpe"),
        ("Max Drawdown", None), ("maximum drawdown", "max_drawdown"), ("MAE", "mae"), ("profit-factor", "profit_factor"),
    ],
)  # fmt: skip
def test_a_word_is_found_under_its_usual_spellings(asked, found):
    if found is None:
        assert find_word(asked).name == "max_drawdown"
    else:
        assert find_word(asked).name == found


def test_no_spelling_means_two_things():
    spellings = [spelling.lower() for word in WORDS for spelling in (word.name, *word.aliases)]
    assert len(spellings) == len(set(spellings))
    assert not set(spellings) & set(METRICS)


def test_an_unknown_word_suggests_the_nearest():
    with pytest.raises(NotFound) as caught:
        find_word("sharp ratio")
    assert "sharpe" in caught.value.fix


def test_a_word_that_is_no_figure_of_a_run_says_so(computed):
    brief = metric_brief(find_word("pbo"), computed.run)
    assert brief["value"] is None
    assert "get_verdict" in brief["why"]
