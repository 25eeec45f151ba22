"""Counter-based random numbers: every draw is a pure function of (key, counter).

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011. It is written out here, vectorised over counters, because the draws
must be the same under every version of numpy and must be reachable at any
counter without stepping through the ones before it.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Float64Array, Int64Array

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox4x32(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    key: tuple[int, int | npt.NDArray[np.uint64]],
) -> tuple[npt.NDArray[np.uint64], ...]:
    """Ten rounds of Philox4x32.

    counter: four words below 2**32, each a scalar or an array (they broadcast);
    key: two words below 2**32, the second a scalar or an array too. Returns four uint64 arrays with
    values below 2**32.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) for word in counter))
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    for _ in range(10):
        product_0 = c0 * _MULTIPLIER_0
        product_1 = c2 * _MULTIPLIER_1
        c0 = (product_1 >> _32) ^ c1 ^ k0
        c1 = product_1 & _LOW
        c2 = (product_0 >> _32) ^ c3 ^ k1
        c3 = product_0 & _LOW
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


def stream_key(seed: int, purpose: str) -> tuple[int, int]:
    """A Philox key for one purpose ("crop start", "noise snr", …) of a run's seed.

    Draws for different purposes are independent, so adding one changes no other.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed} is not in [0, 2**32)")
    return seed, zlib.crc32(purpose.encode())


def words(
    seed: int, purpose: str, epoch: int, n: npt.ArrayLike, slot: npt.ArrayLike = 0
) -> npt.NDArray[np.uint64]:
    """64 random bits for each sample number in `n` (any shape, values in [0, 2**64)); uint64, same shape.

    `slot` tells apart several draws that one sample makes for one purpose; an array of slots
    broadcasts with `n`.
    """
    index = np.asarray(n, dtype=np.uint64)
    w0, w1, _, _ = philox4x32((index & _LOW, index >> _32, epoch, slot), stream_key(seed, purpose))
    return (w0 << _32) | w1


def uniform(seed: int, purpose: str, epoch: int, n: npt.ArrayLike, slot: npt.ArrayLike = 0) -> Float64Array:
    """A uniform number in [0, 1) for each sample number in `n`; float64, same shape, 53 random bits."""
    return _fraction(words(seed, purpose, epoch, n, slot))


def _fraction(bits: npt.NDArray[np.uint64]) -> Float64Array:
    fraction: Float64Array = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return fraction


def uniform_several(
    seed: int, epoch: int, wanted: Sequence[tuple[str, Int64Array, npt.ArrayLike]]
) -> list[Float64Array]:
    """uniform(seed, purpose, epoch, n, slot) for each (purpose, n, slot) of `wanted`.

    In one pass: for the few hundred numbers of a batch the ten rounds cost by the call, not by the number.
    """
    shapes = [np.broadcast_shapes(n.shape, np.shape(slot)) for _, n, slot in wanted]
    sizes = [math.prod(shape) for shape in shapes]
    index, slots, second = (np.empty(sum(sizes), np.uint64) for _ in range(3))
    ends = list(itertools.accumulate(sizes))
    for (purpose, n, slot), shape, size, end in zip(wanted, shapes, sizes, ends, strict=True):
        own = slice(end - size, end)
        index[own].reshape(shape)[...] = n
        slots[own].reshape(shape)[...] = slot
        second[own] = stream_key(seed, purpose)[1]
    w0, w1, _, _ = philox4x32((index & _LOW, index >> _32, epoch, slots), (seed, second))
    shares = _fraction((w0 << _32) | w1)
    return [
        shares[end - size : end].reshape(shape) for shape, size, end in zip(shapes, sizes, ends, strict=True)
    ]


def integers(
    seed: int, purpose: str, epoch: int, n: npt.ArrayLike, below: npt.ArrayLike, slot: npt.ArrayLike = 0
) -> Int64Array:
    """A uniform integer in [0, below) for each sample number in `n`; int64.

    `below` is a positive scalar or an array of n's shape, less than 2**40, so that
    the bias of scaling 53 bits stays under 2**-13 of one count.
    """
    return scaled(uniform(seed, purpose, epoch, n, slot), below)


def scaled(share: Float64Array, below: npt.ArrayLike) -> Int64Array:
    """Uniform numbers in [0, 1) as integers in [0, below), as `integers` makes them."""
    return (share * np.asarray(below, dtype=np.float64)).astype(np.int64)


def permutation(seed: int, purpose: str, epoch: int, count: int) -> Int64Array:
    """A random order of 0 … count-1; int64 (count,). Sorted by 64 random bits, ties by number."""
    return np.argsort(words(seed, purpose, epoch, np.arange(count)), kind="stable")


def raw(seed: int, purpose: str, epoch: int, count: int, part: int = 0) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit words in a row, to shuffle an epoch or a part of it by; uint64 (count,).

    They come from numpy's Philox4x64-10, ten times as fast as `words`; numpy promises
    the stream of a bit generator (unlike its distributions) never to change.
    epoch and part: below 2**32.
    """
    k0, k1 = stream_key(seed, purpose)
    # As uint64 at once: of a list with a word above 2**63 numpy makes floats, which drop the seed's bits.
    key = np.array([k0 | k1 << 32, epoch | part << 32], dtype=np.uint64)
    bits: npt.NDArray[np.uint64] = np.random.Philox(key=key).random_raw(count)
    return bits
