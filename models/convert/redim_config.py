"""The arguments in a ReDimNet or ReDimNet2 checkpoint, as options of the networks here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.options import ModelError

_BLOCKS = {
    "basic_resnet": "resnet",
    "basic_resnet_fwse": "resnet_se",
    "convnext_like": "convnext",
    "convnext_like_relu": "convnext_relu",
}
_CONTEXTS = {"conv+att": "conv+attention", "att": "attention", "conv": "conv", "fc": "linear"}
_FEATURES = {"pt": "mel", "pt_mel": "mel", "tf": "tfmel", "tf_mel": "tfmel"}

_ONLY: dict[str, tuple[Any, ...]] = {
    "pooling_func": ("ASTP",),
    "spec_in_channels": (1,),
    "causal": ("none", False),
    "fm_weigthing_type": ("NC",),
    "use_freq_pos_enc": (False,),
    "pad_right_samples": (None,),
    "before_pool_offset": (None,),
    "tf_optimized_arch": (False,),
    "return_all_outputs": (False,),
}
"""Arguments of which these values alone are built here."""

_FRONT_END = {
    "sample_rate": 16000,
    "n_fft": 512,
    "win_length": 400,
    "f_min": 20,
    "f_max": 7600,
    "do_preemph": True,
    "spec_norm": "mn",
    "eps": 1e-8,
}
"""The front-end's arguments, and what they must be; those of its masks in training do not matter."""

_FOR_TRAINING = ("num_classes", "class_dropout", "feat_agg_dropout", "head_activation")


def redim_network(config: Mapping[str, Any]) -> str:
    """ "redimnet" or "redimnet2": the latter's strides are pairs."""
    stages = config.get("stages_setup")
    if not isinstance(stages, Sequence) or not stages or not isinstance(stages[0], Sequence):
        raise ModelError(
            "model_config has no stages_setup: looked for: a checkpoint of ReDimNet or ReDimNet2"
        )
    return "redimnet2" if isinstance(stages[0][0], Sequence) else "redimnet"


def redim_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the network that `config` describes. Raises ModelError for what is not built here."""
    network, left = redim_network(config), dict(config)
    for name, allowed in _ONLY.items():
        value = left.pop(name, allowed[0])
        if value not in allowed:
            raise ModelError(
                f"model_config: {name} is {value!r}, and the {network} here knows {allowed[0]!r} alone"
            )
    front_end = left.pop("spec_params", {}) or {}
    for name, wanted in _FRONT_END.items():
        if front_end.get(name, wanted) != wanted:
            raise ModelError(
                f"model_config: spec_params: {name} is {front_end[name]!r}, here it is {wanted!r}"
            )
    for name in _FOR_TRAINING:
        left.pop(name, None)
    later = network == "redimnet2"
    options: dict[str, Any] = {
        "n_mels": left.pop("F", 72),
        "channels": left.pop("C", 24 if later else 16),
        "stages": _stages(left.pop("stages_setup"), network),
        "blocks": _known(
            "block_2d_type", left.pop("block_2d_type", "basic_resnet" if later else "convnext_like"), _BLOCKS
        ),
        "context": _known(
            "block_1d_type", left.pop("block_1d_type", "conv+att" if later else "att"), _CONTEXTS
        ),
        "features": _known("feat_type", left.pop("feat_type", "pt"), _FEATURES),
        "unit_audio": bool(front_end.get("norm_signal", False)),
        "hop_length": left.pop("hop_length", 160),
        "group_size": left.pop("group_divisor", 1 if later else 4),
        "pooling_context": left.pop("global_context_att", later),
        "embedding_norm": left.pop("emb_bn", False),
        "embedding_size": left.pop("embed_dim", 192),
        "pooled_channels": left.pop("out_channels", None) or (-1 if later else 0),
    }
    if later:
        options["pool_maps"] = left.pop("return_2d_output", False)
        options["grouped_strides"] = left.pop("compress_tconvs", True)
        options["two_outputs"] = left.pop("dual_agg", False)
        options["normed_outputs"] = left.pop("agg_gnorm", False)
    if left:
        raise ModelError(
            f"model_config: the {network} here has nothing like {', '.join(sorted(map(str, left)))}"
        )
    return options


def _known(name: str, value: Any, names: Mapping[str, str]) -> str:
    if value not in names:
        raise ModelError(f"model_config: {name} is {value!r}; here there are: {', '.join(names)}")
    return names[value]


def _stages(stages: Sequence[Any], network: str) -> str:
    """As the option says it: "stride blocks expansion reduction; …"."""
    texts = []
    for number, stage in enumerate(stages, start=1):
        try:
            stride, blocks, expansion, kernels, reduction = stage
            if network == "redimnet2":
                (kernel,) = kernels
                words = [f"{stride[0]}x{stride[1]}", blocks, f"{expansion:g}", f"{kernel[0]}x{kernel[1]}"]
            else:
                words = [stride, blocks, f"{expansion:g}"]
            texts.append(" ".join(map(str, [*words, reduction or 0])))
        except (TypeError, ValueError, IndexError):
            raise ModelError(f"model_config: stages_setup: number {number} is {str(stage)[:60]!r}") from None
    return "; ".join(texts)
