"""Statistics that tell skill from luck: Sharpe inference, multiple testing, resampling, splits, nulls and regimes."""
