"""Numba comes without the packages it only looks at, and finds SciPy when a kernel needs it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.core import compilation

ROOT = Path(__file__).parent.parent.parent.parent

SCRIPT = """
import sys
from engine.core.compilation import njit
import numpy as np

@njit
def product(left, right):
    return left @ right

loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"scipy", "cffi", "unittest"}, loaded
assert product(np.eye(2), np.full((2, 2), 3.0)).tolist() == [[3.0, 3.0], [3.0, 3.0]]
assert "scipy.linalg.cython_blas" in sys.modules
import cffi
"""


def test_numba_starts_without_scipy_and_linear_algebra_compiles_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_package_is_missing_to_the_importing_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    found: list[str] = []
    with compilation._without(("colorsys",)):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("colorsys")
        other = threading.Thread(target=lambda: found.append(importlib.import_module("colorsys").__name__))
        other.start()
        other.join(timeout=60)
    assert found == ["colorsys"]
    assert not [finder for finder in sys.meta_path if isinstance(finder, compilation._Refusal)]
