"""The counter-based generator against the reference's known answers, and what the draws promise."""

from __future__ import annotations

import numpy as np
import pytest

from shard_tools import philox

# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert tuple(int(word) for word in philox.philox4x32(counter, key)) == answer


def test_a_draw_depends_on_its_own_number_alone():
    n = np.arange(1000, dtype=np.int64) * 7919
    together = philox.uniform(3, "snr", 5, n)
    alone = [float(philox.uniform(3, "snr", 5, number)) for number in n[::100]]
    assert together[::100].tolist() == alone


def test_seed_purpose_epoch_and_slot_change_the_draw():
    n = np.arange(100)
    first = philox.words(1, "a", 0, n)
    for other in (
        philox.words(2, "a", 0, n),
        philox.words(1, "b", 0, n),
        philox.words(1, "a", 1, n),
        philox.words(1, "a", 0, n, slot=1),
    ):
        assert not np.any(first == other)


# CRC-32 of "lasting order" begins with a one bit, that of "group time" with a zero bit
@pytest.mark.parametrize("purpose", ["lasting order", "group time"])
def test_every_part_of_the_key_changes_the_words_of_a_row(purpose):
    first = philox.raw(1, purpose, 0, 100)
    for other in (
        philox.raw(2, purpose, 0, 100),
        philox.raw(1, purpose + "s", 0, 100),
        philox.raw(1, purpose, 1, 100),
        philox.raw(1, purpose, 0, 100, part=1),
    ):
        assert not np.any(first == other)


def test_uniform_is_uniform():
    drawn = philox.uniform(0, "x", 0, np.arange(200_000))
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    # Chi-square with 19 degrees of freedom exceeds 43.8 with probability 0.001; the draws are fixed.
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 43.8


def test_several_purposes_at_once_are_those_one_by_one():
    n, few = np.array([0, 5, 2**40, 2**32 - 1]), np.array([[7], [2**33]])
    wanted = [("clips", n, 0), ("snr", few, np.arange(3)), ("nothing", n[:0], 0), ("clips", n, 2)]
    found = philox.uniform_several(11, 4, wanted)
    assert len(found) == len(wanted)
    for share, (purpose, of, slot) in zip(found, wanted, strict=True):
        expected = philox.uniform(11, purpose, 4, of, slot)
        assert share.shape == expected.shape
        assert np.array_equal(share, expected)
    assert philox.uniform_several(11, 4, []) == []


def test_integers_reach_both_ends_and_take_bounds_by_row():
    below = np.array([1, 2, 5] * 400)
    drawn = philox.integers(0, "x", 0, np.arange(1200), below)
    assert np.all(drawn < below)
    assert set(drawn[2::3].tolist()) == {0, 1, 2, 3, 4}
    assert set(drawn[0::3].tolist()) == {0}


def test_permutation_is_one_and_differs_by_epoch():
    first, second = (philox.permutation(0, "x", epoch, 1000) for epoch in (0, 1))
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert not np.array_equal(first, second)


def test_raw_words_are_numpys_documented_stream():
    """Pins the stream: a change would reorder every run that is resumed."""
    assert [hex(word) for word in philox.raw(7, "utterance order", 2, 3)] == [
        hex(word)
        for word in np.random.Philox(
            key=[7 | philox.stream_key(7, "utterance order")[1] << 32, 2]
        ).random_raw(3)
    ]
    assert philox.raw(0, "pinned", 0, 2).tolist() == PINNED


PINNED = [10094972213798726761, 17729320923167404347]


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(ValueError, match="4294967296"):
        philox.uniform(2**32, "x", 0, 0)
