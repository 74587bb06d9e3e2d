"""Bybit as the outside world: what it sends, how fast we may ask, and a simulated exchange that speaks the same."""
