"""The door to Numba: `njit`, imported without the packages that Numba only looks at."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Both are optional to Numba, which imports them to see whether they are there; that takes as long as the rest of it, for
# cffi brings a parser of C, and SciPy's linear algebra half of numpy's tests. That algebra is looked for again when a
# kernel that uses it is compiled, and found then; only `np.convolve` and `np.correlate` in a kernel would do without BLAS.
# Functions of cffi in a kernel would not be known.
_NOT_NEEDED: Final = ("scipy", "cffi")


class _Refusal(MetaPathFinder):
    """Says to one thread that some packages are not installed; others go on finding them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._thread = threading.get_ident()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the import system passes it
        target: ModuleType | None = None,  # noqa: ARG002 - the same
    ) -> ModuleSpec | None:
        """Refuse the named packages, leave all others to the finders that follow."""
        if fullname in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is not wanted here", name=fullname)
        return None


@contextmanager
def _without(names: Sequence[str]) -> Generator[None]:
    """Let the block import as if these packages were missing; those that are loaded already stay."""
    refusal = _Refusal(names)
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)


with _without(_NOT_NEEDED):
    # The modules that look; Numba would import them at the first kernel.
    for _looking in ("numba.core.typing.cffi_utils", "numba.np.arraymath"):
        importlib.import_module(_looking)
    from numba import njit

__all__ = ["njit"]
