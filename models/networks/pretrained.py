"""Pretrained speech encoders (WavLM, wav2vec 2.0, HuBERT, w2v-BERT 2.0) as the front of a speaker network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn

from models.options import ModelError, Within, weights_come_later
from models.parts.fbank import KaldiFrontEnd
from models.parts.frontend import HOP, WINDOW, check_audio
from models.parts.pooling import ContextPooling
from models.parts.precision import wide

_KINDS = ("wavlm", "wav2vec2", "hubert", "wav2vec2-bert")
_LEAST_FRAMES = 2
_MARK = "json:"
"""Before JSON that is an option's text: without it a recipe's reader takes it for a mapping."""
_LEAST_VARIANCE = 1e-7

_STILL = {
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "conformer_conv_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}
"""What draws random numbers within an encoder: a run that is resumed must go on to the same weights."""

_ADAPTED = {
    # WavLM hands the weights of its attention to a function: an adapter around them would never be called.
    "wavlm": ["intermediate_dense", "output_dense"],
    "wav2vec2": ["q_proj", "v_proj", "intermediate_dense", "output_dense"],
    "hubert": ["q_proj", "v_proj", "intermediate_dense", "output_dense"],
    "wav2vec2-bert": ["linear_q", "linear_v", "intermediate_dense", "output_dense"],
}


class PretrainedEncoder(nn.Module):
    """A pretrained encoder, a learnt weighted sum of all its layers, attentive statistics, one linear layer.

    Chen et al., "WavLM: large-scale self-supervised pre-training for full stack speech
    processing", IEEE JSTSP 2022, and Barrault et al., "Seamless: multilingual expressive
    and streaming speech translation", 2023 (w2v-BERT 2.0); the sum over layers is that
    of Yang et al., "SUPERB", Interspeech 2021. The encoder is transformers' (Apache licence 2.0), which
    `pip install 'voxshard[encoders]'` brings. It draws no random numbers: neither dropout nor masks.

    encoder: a folder with config.json and model.safetensors, or a name on the hub, as
    microsoft/wavlm-base-plus or facebook/w2v-bert-2.0; "" has random weights, for tests. architecture: the
    encoder's configuration as JSON, which is read from there where it is "": with it a checkpoint can
    be evaluated without the folder. trained: "frozen", "all", or "lora" (Hu et al. 2022: small matrices
    beside the encoder's own). lora_rank: their rank. embedding_size: dimensions of the output.

    A rate of its own, a hundredth of the others': `--optim.rates '{network.encoder: 0.01}'`.
    """

    def __init__(
        self,
        *,
        encoder: str = "",
        architecture: str = "",
        trained: Literal["frozen", "all", "lora"] = "frozen",
        lora_rank: Annotated[int, Within(1, 1024)] = 16,
        embedding_size: Annotated[int, Within(1, 8192)] = 192,
    ) -> None:
        super().__init__()
        said = _said(_architecture(encoder, architecture))
        self.kind: str = said["config"]["model_type"]
        self.encoder = _made(encoder, said["config"])
        self.embedding_size = embedding_size
        self.frozen = trained == "frozen"
        width = int(said["config"]["hidden_size"])
        if self.kind == "wav2vec2-bert":
            self.frontend: nn.Module = _StackedFeatures()
            self.least_samples = WINDOW + HOP * (2 * _LEAST_FRAMES - 1)
        else:
            self.frontend = _Waveform(normalise=bool(said["normalise"]))
            self.least_samples = _samples_of(said["config"], _LEAST_FRAMES)
        if trained == "lora":
            _adapt(self.encoder, self.kind, lora_rank)
        elif self.frozen:
            self.encoder.requires_grad_(False)
        for name, parameter in self.encoder.named_parameters():
            if name.endswith("masked_spec_embed"):  # of masks, which are not drawn: it never has a gradient
                parameter.requires_grad_(False)
        self.layers = nn.Parameter(torch.zeros(int(said["config"]["num_hidden_layers"]) + 1))
        self.pooling = ContextPooling(width, context=True)
        self.bn_pooled = nn.BatchNorm1d(self.pooling.output_size)
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)
        self.encoder.eval()

    @classmethod
    def resolve(cls, options: dict[str, Any]) -> dict[str, Any]:
        """The options with the architecture that they mean. Raises ModelError where it cannot be had."""
        return options | {"architecture": _architecture(options["encoder"], options["architecture"])}

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """The encoder stays as in evaluation: what it would do besides in training draws random numbers."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ `least_samples` → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        if self.frozen and not torch.compiler.is_exporting():  # which cannot write such a context
            with torch.no_grad():
                found = self._layers(audio)
        else:
            found = self._layers(audio)
        weights = self.layers.softmax(dim=0)
        frames = sum(wide(values) * weight for values, weight in zip(found, weights, strict=True))
        return self.fc(self.bn_pooled(self.pooling(frames.transpose(1, 2))))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, but for the encoder: transformers takes a lock within, which cannot be traced."""
        # Here and not above its class: the decorator loads torch._dynamo, for seconds, in every program.
        self.encoder.forward = torch.compiler.disable(self.encoder.forward)
        super().compile(*args, **kwargs)

    def _layers(self, audio: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What each layer gives, (B, T, width); the last one after the normalisation that some have there."""
        given = self.encoder(self.frontend(audio), output_hidden_states=True)
        return (*given.hidden_states[:-1], given.last_hidden_state)


class _Waveform(nn.Module):
    """The samples; of each utterance less their mean, over their deviation, where the encoder wants that."""

    def __init__(self, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        if not self.normalise:
            return audio
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            mean = audio.mean(dim=1, keepdim=True)
            variance = audio.var(dim=1, keepdim=True, correction=0)
            return (audio - mean) / (variance + _LEAST_VARIANCE).sqrt()


class _StackedFeatures(nn.Module):
    """w2v-BERT 2.0's: 80 of Kaldi's bands by Povey's window, mean 0 and variance 1 each, two frames in one.

    A frame that is left over is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bands = KaldiFrontEnd(80, window="povey", normalise="none")

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, T // 2, 160)."""
        with torch.no_grad():
            features = self.bands(audio)
            features = features - features.mean(dim=2, keepdim=True)
            features = features / (features.var(dim=2, keepdim=True) + _LEAST_VARIANCE).sqrt()
            frames = features.transpose(1, 2)
            whole = frames[:, : frames.shape[1] // 2 * 2]
            return whole.reshape(whole.shape[0], -1, 2 * whole.shape[2])


def _architecture(encoder: str, architecture: str) -> str:
    """JSON of the encoder's configuration ("config"), and whether it wants normalised samples."""
    if not architecture:
        if not encoder:
            raise ModelError(
                "encoder is empty: give a folder with config.json and model.safetensors, or a name on the hub"
                " such as microsoft/wavlm-base-plus"
            )
        left_out = ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype")
        given = sorted(_read(encoder, "config.json").items())
        kept = {key: value for key, value in given if key not in left_out}
        extractor = _read(encoder, "preprocessor_config.json", {})
        said: Any = {"config": kept, "normalise": bool(extractor.get("do_normalize", True))}
    else:
        try:
            said = _said(architecture)
        except ValueError:
            said = None
    config = said.get("config") if isinstance(said, dict) else None
    if not isinstance(config, dict) or "normalise" not in said:
        raise ModelError(
            "architecture is not what this network writes there; leave it out, to have it read anew"
        )
    if config.get("model_type") not in _KINDS:
        kind = config.get("model_type")
        raise ModelError(f"encoder {encoder!r} is of the kind {kind!r}; there are: {', '.join(_KINDS)}")
    lacking = [name for name in ("hidden_size", "num_hidden_layers") if not isinstance(config.get(name), int)]
    if lacking:
        raise ModelError(f"encoder {encoder!r}: its config.json lacks {' and '.join(lacking)}")
    return _MARK + json.dumps(said, sort_keys=True, separators=(",", ":"))


def _said(architecture: str) -> Any:
    return json.loads(architecture.removeprefix(_MARK))


def _read(encoder: str, name: str, usual: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON file `name` of a folder or of the hub; `usual` where there is none. Raises ModelError."""
    path: Path | None = Path(encoder).expanduser() / name
    if not Path(encoder).expanduser().is_dir():
        path = _from_hub(encoder, name, required=usual is None)
    if path is None or not path.is_file():
        if usual is None:
            raise ModelError(f"encoder {encoder!r}: there is no {name} in that folder")
        return usual
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"encoder {encoder!r}: {path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ModelError(f"encoder {encoder!r}: {path} holds no mapping")
    return found


def _from_hub(encoder: str, name: str, *, required: bool) -> Path | None:
    _transformers()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(encoder, name))
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):  # not in the cache, and the hub out of reach
            raise _out_of_reach(encoder, name, error) from None
        if not required:
            return None
        raise ModelError(f"encoder {encoder!r}: the hub has no {name} of that name") from None
    except Exception as error:  # the network's, the hub's, and names that cannot be
        raise _out_of_reach(encoder, name, error) from None


def _out_of_reach(encoder: str, name: str, error: Exception) -> ModelError:
    return ModelError(
        f"encoder {encoder!r} is no folder here, and the hub does not give its {name} ({_line(error)}):"
        " give a folder, or fill the hub's cache where there is a network (HF_HOME says where it lies)"
    )


def _made(encoder: str, config: dict[str, Any]) -> nn.Module:
    """The encoder with its weights; with random ones where a checkpoint's follow, or none are named."""
    transformers = _transformers()
    still = {key: value for key, value in _STILL.items() if key in config or key == "apply_spec_augment"}
    made = transformers.AutoConfig.for_model(**(config | still))
    made.add_adapter = False
    if weights_come_later() or not encoder:
        model: nn.Module = transformers.AutoModel.from_config(made)
        return model.float()
    try:
        model, found = transformers.AutoModel.from_pretrained(
            encoder, config=made, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # a file that is not there, cut short, or another architecture's
        raise ModelError(f"encoder {encoder!r}: its weights cannot be read ({_line(error)})") from None
    lacking = sorted(set(found["missing_keys"]) - {"masked_spec_embed"})  # of masks, which are not drawn
    if lacking:
        raise ModelError(
            f"encoder {encoder!r}: its weights lack {len(lacking)} of the tensors of its config.json, first"
            f" {lacking[0]!r}"
        )
    return model


def _adapt(encoder: nn.Module, kind: str, rank: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ModelError("trained: lora needs peft: pip install 'voxshard[encoders]'") from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=_ADAPTED[kind])
    inject_adapter_in_model(config, encoder)


def _samples_of(config: dict[str, Any], frames: int) -> int:
    """Samples from which the encoder's convolutions make so many frames."""
    for kernel, stride in zip(reversed(config["conv_kernel"]), reversed(config["conv_stride"]), strict=True):
        frames = (frames - 1) * stride + kernel
    return int(frames)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ModelError("pretrained encoders need transformers: pip install 'voxshard[encoders]'") from None
    return transformers


def _line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__
