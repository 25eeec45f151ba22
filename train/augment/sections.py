"""The options of augmentation in a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from models.options import Within

_Weight = Annotated[float, Within(0, 1e6)]
_Decibels = Annotated[tuple[float, float], Within(-100, 100)]


@dataclass
class NoneConfig:
    """Crops left as they are.

    Args:
        weight: Relative frequency.
    """

    weight: _Weight = 1.0


@dataclass
class ReverberationConfig:
    """Convolution with a room impulse response.

    Args:
        url: Shards of impulse responses (null: no reverberation).
        category: Use only this category (the "speaker" they were packed under); null: all.
        weight: Relative frequency.
    """

    url: str | None = None
    category: str | None = None
    weight: _Weight = 1.0


@dataclass
class NoiseConfig:
    """One added recording.

    Args:
        url: Shards of recordings (null: not used).
        category: Use only this category (the "speaker" they were packed under); null: all.
        weight: Relative frequency.
        snr: Range of the signal-to-noise ratio in dB.
    """

    url: str | None = None
    category: str | None = None
    weight: _Weight = 1.0
    snr: _Decibels = (0.0, 15.0)


@dataclass
class BabbleConfig:
    """Several added speech recordings, each at its own ratio.

    Args:
        url: Shards of speech (null: not used).
        category: Use only this category (the "speaker" they were packed under); null: all.
        weight: Relative frequency.
        snr: Range of the signal-to-noise ratio of each in dB.
        clips: Range of their number.
    """

    url: str | None = None
    category: str | None = None
    weight: _Weight = 1.0
    snr: _Decibels = (13.0, 20.0)
    clips: Annotated[tuple[int, int], Within(1, 100)] = (3, 7)


@dataclass
class ChainedConfig:
    """Reverberation, and then one of music, babble and noise by their weights.

    Args:
        weight: Relative frequency.
    """

    weight: _Weight = 0.0


@dataclass
class TelephoneConfig:
    """A narrow-band line at the end of all else: 300 to 3400 Hz, 8 kHz and 8 bits by ITU-T G.711.

    Args:
        probability: Share of all crops, whatever else was done to them, that go over a line.
        laws: The companding, one of these for each: mulaw (North America, Japan), alaw (elsewhere).
    """

    probability: Annotated[float, Within(0, 1)] = 0.0
    laws: list[Literal["mulaw", "alaw"]] = field(default_factory=lambda: ["mulaw", "alaw"])


@dataclass
class CopyConfig:
    """Remote noise and rooms are brought to each node once, for its processes and jobs, while training runs.

    Args:
        max_gib: Bring them as long as their shards have no more GiB together; of several datasets the
            smallest first. 0 brings none.
        folder: Where, on a disk of the node itself (null: copies/ in data.cache.folder, else a folder of the
            user's in $SLURM_TMPDIR, $TMPDIR or /tmp, unless that lies in memory).
    """

    max_gib: Annotated[float, Within(0, 1e6)] = 20.0
    folder: str | None = None


@dataclass
class AugmentConfig:
    """One treatment for each crop, chosen by weight among those that have a url (and none).

    Args:
        none: Crops left as they are.
        reverberation: Rooms.
        music: Music.
        babble: Voices in the background.
        noise: Noise.
        chained: Reverberation and then one of the other three.
        telephone: A telephone line, after any of these.
        device: workers augments in the reading processes; model on the model's device, whole batches at once.
        speed: Speeds at which every speaker is heard too, as speakers of their own; [0.9, 1.1] triples them.
        cache_mib: Memory of each worker for impulse responses' spectra, MiB.
        copy: Copies of remote noise and rooms on each node.
    """

    none: NoneConfig = field(default_factory=NoneConfig)
    reverberation: ReverberationConfig = field(default_factory=ReverberationConfig)
    music: NoiseConfig = field(default_factory=lambda: NoiseConfig(snr=(5.0, 15.0)))
    babble: BabbleConfig = field(default_factory=BabbleConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    chained: ChainedConfig = field(default_factory=ChainedConfig)
    telephone: TelephoneConfig = field(default_factory=TelephoneConfig)
    device: Literal["workers", "model"] = "workers"
    speed: Annotated[list[float], Within(0.5, 2)] = field(default_factory=list)
    cache_mib: Annotated[int, Within(0, 65_536)] = 256
    copy: CopyConfig = field(default_factory=CopyConfig)
