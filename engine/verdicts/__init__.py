"""Judges stored runs: the verdict with its evidence, and the single examinations behind it."""

from engine.verdicts.bodies import examination_bodies
from engine.verdicts.examinations import Examinations
from engine.verdicts.verdicts import Verdicts

__all__ = ["Examinations", "Verdicts", "examination_bodies"]
