"""Counter-based randomness and arithmetic that give the same bits on every platform.

Only integer operations and single IEEE additions, multiplications and divisions are used: the transcendental functions of
numpy and libm may differ in the last bit between processors, and one bit can move a price by a tick.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
KeyArray = NDArray[np.uint64]

# Standard deviation and mean of the sum of four 16-bit words.
_SUM_DEVIATION = 65536 * 0.5773502691896258
_SUM_MEAN = 131070.0


def stream_key(*parts: object) -> KeyArray:
    """Return the 128-bit key of the random stream with this name."""
    digest = hashlib.blake2b("|".join(str(part) for part in parts).encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def words(key: KeyArray, block: int, lane: int, count: int) -> IntArray:
    """Return 16-bit words of one lane of one block of a stream.

    Parameters
    ----------
    key : ndarray of uint64, shape (2,)
        From `stream_key`.
    block, lane : int
        Position in the stream; any order of asking gives the same words.
    count : int
        Rows wanted.

    Returns
    -------
    ndarray of int64, shape (count, 4)
        Values 0 to 65535. Source: Philox 4x64 (Salmon et al. 2011), whose raw output numpy guarantees.
    """
    generator = np.random.Philox(key=key, counter=np.array([0, lane, block, 0], dtype=np.uint64))
    raw = np.asarray(generator.random_raw(count), dtype="<u8")
    return raw.view("<u2").reshape(count, 4).astype(np.int64)


def normals(four_words: IntArray) -> FloatArray:
    """Return nearly normal numbers (sum of four uniforms: mean 0, deviation 1, bounded by 3.5), shape (n,)."""
    total = four_words[:, 0] + four_words[:, 1] + four_words[:, 2] + four_words[:, 3]
    return np.divide(total - _SUM_MEAN, _SUM_DEVIATION)


def exponential(values: FloatArray) -> FloatArray:
    """Return e**values to about 1e-4, by sixteen squarings: monotone, and equal bit for bit everywhere."""
    result: FloatArray = 1.0 + values / 65536.0
    for _ in range(16):
        result = result * result
    return result


def lattice(key: KeyArray, positions: IntArray) -> FloatArray:
    """Return uniform numbers in [0, 1) attached to integer positions, shape of `positions`.

    Source: the finaliser of splitmix64 (Steele, Lea, Flood 2014).
    """
    mixed = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 9007199254740992.0


def smooth_lattice(key: KeyArray, at_ms: IntArray, knot_ms: int) -> FloatArray:
    """Return a continuous random curve in [0, 1) that passes through a lattice of knots, shape of `at_ms`."""
    knot = at_ms // knot_ms
    share: FloatArray = (at_ms - knot * knot_ms) / knot_ms
    return lattice(key, knot) * (1.0 - share) + lattice(key, knot + 1) * share
