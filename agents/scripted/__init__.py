"""A scripted model server: speaks the wire formats of real agents, answers from a script, breaks on purpose."""

from agents.scripted.application import RequestEntry, ScriptedAnswer, ScriptedModel
from agents.scripted.faults import FAULT_KINDS, Fault, FaultKind, FaultPlan
from agents.scripted.serving import ServedModel, serve

__all__ = [
    "FAULT_KINDS",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "RequestEntry",
    "ScriptedAnswer",
    "ScriptedModel",
    "ServedModel",
    "serve",
]
