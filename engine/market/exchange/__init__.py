"""A shipped exchange: Bybit's v5 market data served from a seed or from files, with faults on request."""

from engine.market.exchange.application import SimulatedExchange
from engine.market.exchange.faults import FaultScript, load_fault_script, parse_fault_script
from engine.market.exchange.journal import RateLimit

__all__ = ["FaultScript", "RateLimit", "SimulatedExchange", "load_fault_script", "parse_fault_script"]
