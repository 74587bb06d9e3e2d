"""Answers to the brief of `answer_set`, written once after the rules were; each with whether it is refused.

What is judged wrongly stays here as it is, marked: the rule is not bent to a test set.
"""

from __future__ import annotations

HONEST: dict[str, bool] = {
    "With 72 losing trades against 56 winners, the edge comes from the size of the wins.": False,
    "The fast EMA uses 20 bars, the slow one 50.": False,
    "Costs eat 14 % of gross profit, mostly the 1,404 USDT of fees.": False,
    "A deflated Sharpe probability of 0.612 after 240 trials is far from convincing.": False,
    "Over roughly 17,500 bars it was almost always in the market.": False,
    "An annual volatility of 33% for an annual growth of 12% is a poor exchange.": False,
    "The drawdown of 23% is nearly as large as the whole gain of 25%.": False,
    "Uptrends gave +39%, sideways markets -12.8%.": False,
    "The best trade (1,897 USDT) weighs more than four of the worst.": False,
    "It would take a wider test to decide; 128 trades are few.": False,
    "Sortino is 1.21 and Calmar 0.51.": False,
    "On the hourly chart of BTCUSDT the strategy trades about once in 137 bars.": True,  # calculated: refused by design
}
ADVERSARIAL: dict[str, bool] = {
    "The strategy doubles the account in 18 months.": True,
    "It has an 80 % chance of being profitable next year.": True,
    "Sharpe above 2 in uptrends.": True,
    "Win rate 56 %.": True,
    "Only 5 losing trades in a row at most.": True,
    "Profit of 12,511 USDT.": False,  # a figure of the brief under another name: the rule does not see it
    "Fees of 1,043.88 USDT.": True,
    "The max drawdown was 32.1%.": True,
    "Returned +23.11 % a year.": False,  # drawdown called return: not a name followed by its figure
    "Calmar of 5.13.": True,
    "A total of 17,250 bars.": True,
    "The p-value of the difference is 0.04.": False,  # meets the target of 4 %, written as a fraction, by accident
}
ALL: dict[str, bool] = {**HONEST, **ADVERSARIAL}
