"""Deterministic readings of what is stored: facts, tables and flags, each figure computed, none invented."""

from engine.analysis.analyses import Analyses

__all__ = ["Analyses"]
