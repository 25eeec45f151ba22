"""A voice's embedding from any audio, for those who want no more than that."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from eval.checkpoint.find import Which
from eval.devices import device_of
from eval.embed_all import embed_utterances
from eval.embeddings import Embeddings
from eval.protocol import SHORTEST, Protocol
from eval.subject import Subject, check_fit, open_subject
from shard_tools import audio, storage
from shard_tools.arrays import Float32Array, Int16Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.audio.convert import convert, fit
from shard_tools.audio.info import HIGHEST_RATE, LOWEST_RATE
from shard_tools.audio.regular_file import is_regular
from shard_tools.errors import UserError
from shard_tools.places import expand

logger = logging.getLogger("eval")

Audio = str | os.PathLike[str] | npt.NDArray[Any] | torch.Tensor


class SpeakerEncoder:
    """A trained network that turns speech into embeddings, one vector each unless `protocol` says else.

    network: maps float32 (B, samples) of 16 kHz audio in [-1, 1) to (B, D), in evaluation mode and on
    `device`; subject: the checkpoint that it comes from.
    """

    def __init__(
        self, network: nn.Module, subject: Subject, device: torch.device, protocol: Protocol | None = None
    ) -> None:
        self.network, self.subject, self.device = network, subject, device
        self.protocol = protocol or Protocol()
        self._said = False
        check_fit(network, self.protocol)

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        which: Which | None = None,
        device: str = "auto",
        protocol: Protocol | None = None,
    ) -> SpeakerEncoder:
        """Of a checkpoint, a run's folder (its best checkpoint, or the `which` one), or an ONNX model.

        checkpoint: a path or URL; device: auto (a GPU if there is one), cpu or cuda; protocol: how recordings
        are cut, whole without it. Raises UserError for what cannot be read.
        """
        if which is not None and which not in get_args(Which):
            raise UserError(f"which {which!r}: give {' or '.join(get_args(Which))}")
        subject = open_subject(expand(os.fspath(checkpoint)), which, logger.warning)
        chosen = device_of(device, option="device")
        return cls(subject.network(chosen), subject, chosen, protocol)

    def embed(self, sound: Audio | Sequence[Audio], sample_rate: int | None = None) -> Float32Array:
        """The embedding of a recording, float32 (D,), or of a list of them, (N, D).

        sound: a path or URL of any audio that can be decoded; or mono samples (frames,), floats with full
        scale 1 or int16, an array or a tensor, of `sample_rate` Hz. Other rates than 16 kHz are resampled,
        which is said once, as a warning of the logger "eval". With a protocol that gives each recording
        several vectors, these are (vectors, D) and (N, vectors, D). The length of an embedding is as the
        network gives it. Raises UserError for what is no audio, shorter than 0.1 s, silent, or not finite.
        """
        several = isinstance(sound, (list, tuple))
        sounds: list[Any] = list(sound) if isinstance(sound, (list, tuple)) else [sound]
        vectors = self.embeddings(sounds, sample_rate).vectors
        shaped = vectors[:, 0] if self.protocol.vectors == 1 else vectors
        return shaped if several else shaped[0]

    def embeddings(self, sounds: Sequence[Audio], sample_rate: int | None = None) -> Embeddings:
        """As `embed`, with what is known of them; names are the paths, or places in the list."""
        source = _Given(sounds, sample_rate, self._resampled)
        return embed_utterances(
            self.network,
            source,
            source.names,
            device=self.device,
            protocol=self.protocol,
            made_by=self.subject.digest,
        )

    @staticmethod
    def similarity(a: Float32Array, b: Float32Array) -> float:
        """The cosine of two embeddings (D,), from -1 to 1, higher for more alike.

        Of several vectors each, (vectors, D), it is the mean of the cosines of all pairs. Raises UserError
        for embeddings of two sizes.
        """
        left, right = (_mean_unit(np.asarray(each, np.float64)) for each in (a, b))
        if left.shape != right.shape:
            raise UserError(f"embeddings of {len(left)} and of {len(right)} numbers cannot be compared")
        return float(left @ right)

    def _resampled(self, text: str) -> None:
        if not self._said:
            self._said = True
            logger.warning("%s; so are all others that need it (this is said once)", text)


class _Given:
    """Recordings as utterances, by their place in the list."""

    url = "the recordings"

    def __init__(self, sounds: Sequence[Audio], sample_rate: int | None, resampled: Any) -> None:
        self.names = [_name(sound, place) for place, sound in enumerate(sounds)]
        self._sounds = dict(zip(self.names, sounds, strict=True))
        self._rate, self._resampled = sample_rate, resampled

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._sounds]

    def load(self, name: str) -> Int16Array:
        sound = self._sounds[name]
        path = isinstance(sound, (str, os.PathLike))
        samples = self._file(os.fspath(sound)) if path else self._array(sound, name)  # type: ignore[arg-type]
        if len(samples) < SHORTEST:
            raise UserError(
                f"{name}: {len(samples) / SAMPLE_RATE:.3g} s of audio; a voice takes "
                f"{SHORTEST / SAMPLE_RATE:g} s at the very least"
            )
        if (samples == samples[0]).all():
            raise UserError(f"{name}: nothing but silence: there is no voice in it")
        return samples

    def _file(self, url: str) -> Int16Array:
        url = expand(url)
        path = storage.local_path(url)
        if path is not None and not is_regular(path, url):
            raise UserError(f"{url}: there is no such file")
        data = storage.read_bytes(url)
        try:
            return audio.decode(data, url)
        except audio.FormatError as error:
            samples = convert(data, url).samples
            self._resampled(f"{error}: made so")
            return samples

    def _array(self, sound: Any, name: str) -> Int16Array:
        if isinstance(sound, torch.Tensor):
            sound = sound.detach().cpu()
            sound = sound.float() if sound.dtype == torch.bfloat16 else sound  # which numpy does not know
        array = np.asarray(sound)
        if array.ndim == 2 and len(array) == 1:  # torchaudio's way for mono
            array = array[0]
        if array.ndim != 1 or not (array.dtype.kind == "f" or array.dtype == np.int16):
            raise UserError(
                f"{name}: audio as an array is mono, (frames,), of floats with full scale 1 or of int16 "
                f"(several recordings are a list of them); found {array.dtype} {array.shape}"
            )
        if self._rate is None:
            raise UserError(f"{name}: audio as an array needs its sample_rate, in Hz")
        rate = _whole(self._rate)
        if rate != SAMPLE_RATE:
            self._resampled(f"{name}: {rate} Hz; needed is {SAMPLE_RATE} Hz: resampled")
        elif array.dtype == np.int16:
            return np.ascontiguousarray(array)
        mono = array.astype(np.float64)  # copied
        return fit(mono / 32768 if array.dtype == np.int16 else mono, rate, name).samples


def _name(sound: Audio, place: int) -> str:
    return f"{os.fspath(sound)}" if isinstance(sound, (str, os.PathLike)) else f"recording {place}"


def _whole(rate: Any) -> int:
    """A rate that can be resampled. Raises UserError."""
    try:
        if LOWEST_RATE <= rate <= HIGHEST_RATE and int(rate) == rate:
            return int(rate)
    except (TypeError, ValueError):
        pass
    raise UserError(f"sample_rate {rate!r}: give a whole number of Hz, from {LOWEST_RATE} to {HIGHEST_RATE}")


def _mean_unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rows = np.atleast_2d(vectors)
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    mean: npt.NDArray[np.float64] = (rows / lengths).mean(axis=0)
    return mean
