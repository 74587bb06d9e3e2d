"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from engine.core import validation


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(validation.__path__)])
def test_examples_print_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"{validation.__name__}.{name}")).failed == 0
