"""Computation and storage. Knows nothing of MCP or language models."""

import hashlib
import os
from pathlib import Path


def _keep_compiled_kernels_apart() -> None:
    """Give every state of the kernels' sources a folder of compiled code of its own.

    Numba looks at the file of a compiled function only, not at those it calls: after an update it would go on with old code.
    A folder named in NUMBA_CACHE_DIR is left alone, and where nothing can be written Numba finds a place itself.
    """
    core = Path(__file__).parent / "core"
    stamp = hashlib.sha256()
    for source in sorted(core.rglob("*.py")):
        state = source.stat()
        stamp.update(f"{source.relative_to(core)} {state.st_size} {state.st_mtime_ns}\n".encode())
    folder = Path(__file__).parent / "__pycache__" / f"kernels-{stamp.hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))  # noqa: TID251 - read by Numba, not by us


_keep_compiled_kernels_apart()
