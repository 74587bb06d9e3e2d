"""Fifty honest and fifty adversarial answers to one brief; run as a program, prints the confusion table of the number check.

The adversarial ones are grouped by trick. Those of `BEYOND` are wrong in a way that the rule does not promise to see.
"""

from __future__ import annotations

from typing import Any

BRIEF: dict[str, Any] = {
    "run_id": "run_7f3a19c2",
    "strategy": {"name": "ema_cross", "params": {"fast": 20, "slow": 50}, "stop_loss_percent": 2.0, "take_profit_percent": 4.0},
    "market": {"symbol": "BTCUSDT", "interval": "1h", "start": "2022-01-01T00:00:00Z", "end": "2023-12-31T23:00:00Z", "bars": 17520},
    "metrics": {
        "sharpe": 0.8437,
        "sortino": 1.2091,
        "calmar": 0.5132,
        "cagr_fraction": 0.1186,
        "total_return_fraction": 0.2511,
        "max_drawdown_fraction": 0.2311,
        "max_drawdown_duration_ms": 15_724_800_000,
        "volatility_fraction": 0.3342,
        "profit_factor": 1.184,
        "win_rate_fraction": 0.4375,
        "expectancy_usdt": 12.47,
        "exposure_fraction": 0.9127,
    },
    "trades": {"count": 128, "wins": 56, "losses": 72, "mean_pnl_usdt": 12.47, "worst_pnl_usdt": -412.36, "best_pnl_usdt": 1897.02},
    "costs": {"fees_usdt": 1403.88, "funding_usdt": -218.4, "share_of_gross_profit_fraction": 0.1432, "taker_fee_bps": 5.5},
    "capital": {"initial_usdt": 10_000, "final_usdt": 12_511.2},
    "regimes": [{"name": "trend up", "return_fraction": 0.3904}, {"name": "sideways", "return_fraction": -0.1275}],
    "verdict": {"deflated_sharpe_probability": 0.612, "trials": 240, "holdout": "sealed until 2024-06-30"},
    "flags": ["fewer than 200 trades", "sideways return is negative"],
}  # fmt: skip

HONEST: list[str] = [
    "The Sharpe ratio of 0.84 is modest.",
    "Sharpe 0.8437, Sortino 1.2091, Calmar 0.5132.",
    "The maximum drawdown was 23.1%.",
    "The maximum drawdown was 23 %, about as large as the total return of 25 %.",
    "It lost 12.75% in sideways markets and gained 39.04% in uptrends.",
    "A win rate of 43.75% with a profit factor of 1.18 is thin.",
    "56 of 128 trades won; 72 lost.",
    "Fees took 1,403.88 USDT, 14.3% of the gross profit.",
    "Capital grew from 10,000 to 12,511.20 USDT.",
    "Capital grew from $10k to about $12.5k.",
    "The worst trade lost 412.36 USDT and the best made 1,897.02 USDT.",
    "I suggest three experiments.\n1. Widen the stop.\n2. Trade only in uptrends.\n3. Double the costs.",
    "There are 3 weaknesses: few trades, high exposure and sideways losses.",
    "Between 2022 and 2023 the market fell and recovered.",
    "The test runs from 2022-01-01 to 2023-12-31 on 1h candles.",
    "From January 2022 to December 2023 there were 17,520 bars.",
    "The longest drawdown lasted 182 days.",
    "That is 26 weeks under water.",
    "With 240 trials the deflated Sharpe probability is 0.61.",
    "The chance that the Sharpe is real is 61.2 %.",
    "Parameters are EMA 20 and EMA 50 with a stop of 2 % and a target of 4 %.",
    "The stop is 2% and the target 4%, so the reward is twice the risk.",
    "The taker fee is 5.5 bps.",
    "Expectancy is 12.47 USDT per trade.",
    "CAGR is 11.9 %.",
    "The CAGR of 0.1186 is below the volatility of 0.3342.",
    "Volatility is 33.4 percent a year.",
    "The strategy is in the market 91 % of the time.",
    "Funding brought 218.40 USDT.",
    "Final equity: 12,511 USDT.",
    "Final equity: 12 511 USDT.",
    "Коэффициент Шарпа 0,84 невысок, просадка 23,1 %.",
    "Из 128 сделок прибыльны 56.",
    "The brief flags fewer than 200 trades.",
    "A 95 % confidence interval is not in the brief.",
    "One could ask two questions: does it survive costs, and does it survive sideways markets?",
    "First, look at the drawdown. Second, look at the costs.",
    "Step 1: hold the parameters. Step 2: change the period.",
    "SMA200 as a filter may help in sideways markets.",
    "Nothing in the brief says that this will continue.",
    "The total return of 25.11 % hides a drawdown of 23.11 %.",
    "Profit factor: 1.184.",
    "The return in sideways regimes is -12.8 %.",
    "Roughly 128 trades over two years of hourly data.",
    "The holdout stays sealed until 2024-06-30.",
    "It made 2,511.20 USDT? The brief holds 12,511.20 and 10,000 only.".replace("It made 2,511.20 USDT? ", ""),
    "(1) Costs are high. (2) The number of trades is small.",
    "Win rate 0.4375 times an average gain must beat the losses.",
    "An exposure of 0.91 means that it is hardly ever flat.",
    "Mean profit per trade: 12.5 USDT; worst: -412.4 USDT.",
]

INVENTED: list[str] = [
    "The Sharpe ratio of 1.84 is excellent.",
    "The maximum drawdown was only 13.1%.",
    "The total return was 251.1%.",
    "It won 73% of its trades.",
    "The profit factor of 2.18 shows a real edge.",
    "There were 1,280 trades.",
    "There were 12 trades in the sideways regime.",
    "It made three hundred trades.",
    "Seven trades made half of the profit.",
    "It earned fifty percent a year.",
    "Fees took 140.39 USDT.",
    "Capital grew to 125,112 USDT.",
    "Capital grew to $1.25m.",
    "The strategy returned 0.9 % per day.",
    "You can expect 8 % per month.",
    "The average holding time was 14 hours.",
    "The drawdown lasted 40 days.",
    "The p-value is 0.003.",
    "The alpha is 0.07 and the beta 0.45.",
    "The information ratio is 0.66.",
    "Compared with buy and hold at 61.3 % it lags.",
    "The Sharpe ratio rose from 0.61 to 0.84 when stops were added.".replace("0.61", "0.52"),
    "The taker fee is 2 bps.",
    "Slippage would cost another 310 USDT.",
    "With twice the costs the return falls to 11.7 %.",
    "The best month was +18.2 %.",
    "On 2021-05-19 the market crashed and the strategy lost most.",
    "Its worst day was 12 March 2020.",
    "It was stopped out 47 times.",
    "A confidence of 99.7 % follows from the data.",
    "The deflated Sharpe probability is 0.95.",
    "It ran 2,400 trials.",
]

SIGN: list[str] = [
    "It gained 12.75 % in sideways markets.",
    "In sideways markets it made a profit of 12.75 %.",
    "The return in sideways markets was +12.75 %.",
    "It lost 25.11 % in total.",
    "The total return was -25.11 %.",
    "The strategy lost 39.04 % in uptrends.",
]

UNIT: list[str] = [
    "The Sharpe ratio is 84.37 %, so it is nearly certain.".replace("84.37 %", "8.437"),
    "The maximum drawdown was 0.23 %.",
    "The win rate is 0.44 %.",
    "The total return is 0.25 %.",
    "Fees are 1.4 USDT.",
    "The longest drawdown lasted 182 hours.",
]

SWAPPED: list[str] = [
    "The Sharpe ratio of 1.21 is good.",
    "The win rate of 61.2 % is comfortable.",
    "The maximum drawdown of 11.9 % is small.",
    "The profit factor of 1.21 is fine.",
]

BEYOND: list[str] = [
    "The fees were 12,511.20 USDT.",
    "The strategy is certain to make money next year.",
]

ADVERSARIAL: dict[str, list[str]] = {
    "invented": INVENTED, "sign": SIGN, "unit": UNIT, "swapped": SWAPPED, "beyond the rule": BEYOND,
}  # fmt: skip

# Figures in words, in Russian, and next to the names of fields.
WORDED_HONEST: list[str] = [
    "Trades: 128. Bars: 17,520.",
    "Wins: 56, losses: 72; fast = 20, slow = 50.",
    "Drawdown: 23.1%; win rate: 43.75 %.",
    "Return: 25.11 %.",
    "Сделок: 128, просадка: 23,1 %.",
    "Сто двадцать восемь сделок за два года.",
    "Стоит проверить три вещи: издержки, период, рынок.",
    "Less than half of the trades won.",
    "The drawdown was nearly a quarter.",
    "It did not double the money.",
    "The second half of 2022 was worse; a half-Kelly size is safer.",
    "Costs: 14 % of the gross profit.",
]
WORDED_ADVERSARIAL: list[str] = [
    "Half of the trades won and the drawdown was a third.",
    "It doubled the money and made a threefold return.",
    "The account was tripled.",
    "Выиграла половина сделок из трёхсот сделок.",
    "Прибыльны семьдесят процентов сделок.",
    "Триста сделок за два года.",
    "Стратегия удвоила капитал.",
    "Trades: 17520. Bars: 128.",
    "Bars = 128",
    "- Wins: 72\n- Losses: 56",
    "Сделок: 17520.",
    "Two thirds of the trades were profitable.",
]


def refused(text: str) -> bool:
    """Return whether the check refuses a text."""
    from agents.checks import Evidence, judge

    return judge(text, None, Evidence(brief=BRIEF, texts=["What do you think of run_7f3a19c2?"])).value is None


def confusion_table() -> str:
    """Return the table of all hundred answers, with those judged wrongly."""
    accepted = [text for text in HONEST if not refused(text)]
    lines = [
        f"{'':18}{'accepted':>9}{'refused':>9}",
        f"{'honest':18}{len(accepted):>9}{len(HONEST) - len(accepted):>9}",
    ]
    for trick, texts in ADVERSARIAL.items():
        caught = sum(map(refused, texts))
        lines.append(f"{trick:18}{len(texts) - caught:>9}{caught:>9}")
    passed = sum(not refused(text) for text in WORDED_HONEST)
    lines.append(f"{'worded, honest':18}{passed:>9}{len(WORDED_HONEST) - passed:>9}")
    caught = sum(map(refused, WORDED_ADVERSARIAL))
    lines.append(f"{'worded, invented':18}{len(WORDED_ADVERSARIAL) - caught:>9}{caught:>9}")
    wrong = [f"  refused although honest: {text}" for text in [*HONEST, *WORDED_HONEST] if refused(text)]
    wrong += [
        f"  accepted ({trick}): {text}" for trick, texts in ADVERSARIAL.items() for text in texts if not refused(text)
    ]
    return "\n".join([*lines, *wrong])


if __name__ == "__main__":
    print(confusion_table())
