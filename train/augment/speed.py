"""Speed perturbation that makes new speakers: pitch and formants move, so that a voice becomes another one.

Yamamoto et al., "Speaker augmentation and bandwidth extension for deep speaker
embedding", Interspeech 2019; used so by wespeaker. Utterance u at speed number k
is utterance u + k * utterances of the plan, its speaker s is s + k * speakers;
number 0 is the speed of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from shard_tools.arrays import Float32Array, Int32Array, Int64Array
from shard_tools.errors import UserError

_LARGEST_TERM = 100  # of the fraction: 0.9 = 9/10; the filter's length grows with it


def check_speeds(speeds: list[float]) -> None:
    """Raise UserError for speeds that are not distinct fractions like 0.9 or 1.1 between a half and two."""
    for speed in speeds:
        fraction = Fraction(speed).limit_denominator(_LARGEST_TERM)
        if not 0.5 <= speed <= 2.0 or speed == 1.0 or abs(float(fraction) - speed) > 1e-9:
            raise UserError(
                f"augment.speed has {speed}; give speeds from 0.5 to 2 without 1, in hundredths at the finest"
            )
    if len(set(speeds)) != len(speeds):
        raise UserError(f"augment.speed is {speeds}; each speed may stand in it once")


@dataclass(frozen=True)
class Speeds:
    """The speeds of a run, and the arithmetic between a plan's utterances and the catalogue's.

    factors: number k's speed, factors[0] is 1; utterances, speakers: of the catalogue.
    """

    factors: tuple[Fraction, ...]
    utterances: int
    speakers: int

    @classmethod
    def of(cls, speeds: list[float], utterances: int, speakers: int) -> Speeds:
        given = (Fraction(speed).limit_denominator(_LARGEST_TERM) for speed in speeds)
        return cls((Fraction(1), *given), utterances, speakers)

    def labels(self, label: Int32Array) -> Int32Array:
        """Labels of catalogue utterances (m,) at every speed, (m * speeds,): speed after speed."""
        return np.concatenate([label + np.int32(k * self.speakers) for k in range(len(self.factors))])

    def frames(self, frames: Int64Array) -> Int64Array:
        """Audio frames of utterances (m,) as heard at every speed, (m * speeds,)."""
        return np.concatenate([frames * f.denominator // f.numerator for f in self.factors])

    def numbers(self, utterance: Int64Array) -> Int64Array:
        """The plan's numbers of catalogue utterances (m,) at every speed, (m * speeds,)."""
        return np.concatenate([utterance + k * self.utterances for k in range(len(self.factors))])

    def split(self, utterance: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The speed's number and the catalogue's utterance of the plan's utterances (m,)."""
        speed, original = np.divmod(utterance, self.utterances)
        return speed, original


def frames_needed(frames: int, speed: Fraction) -> int:
    """Frames of the recording from which `frames` frames at `speed` are made."""
    return -(-frames * speed.numerator // speed.denominator)


def change_speed(audio: Float32Array, speed: Fraction, frames: int) -> Float32Array:
    """Play crops at `speed` times their speed, by polyphase resampling.

    audio: float32 (rows, frames_needed(frames, speed)) → float32 (rows, frames).
    """
    from scipy import signal  # a second at the start of every program, which few of them need

    played = signal.resample_poly(audio, speed.denominator, speed.numerator, axis=1)
    return np.ascontiguousarray(played[:, :frames], dtype=np.float32)
