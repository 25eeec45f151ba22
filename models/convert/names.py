"""What the originals call the tensors of each network, and what they are called here.

For each network rules in order, pattern → replacement, each applied to every name. What no rule
touches has the same name on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]


def _one_less(before: str, after: str = ".") -> Callable[[re.Match[str]], str]:
    """Replaces by `before`, the first group less one, `after`: what counts from 1 counts from 0 here."""
    return lambda match: f"{before}{int(match[1]) - 1}{after}"


_STAGES: Rules = [(r"^layer(\d+)\.", _one_less("stages."))]


def _sap(pooling: str) -> Rules:
    return [
        (r"^attention$", f"{pooling}.weigh.attention"),
        (r"^sap_linear\.", f"{pooling}.weigh.hidden."),
    ]


_TWO_LAYERS: Rules = [(r"^seg_1\.", "fc."), (r"^seg_bn_1\.", "second.1."), (r"^seg_2\.", "second.2.")]

_CONTEXT_POOLING: Rules = [(r"^pool\.linear1\.", "pooling.hidden."), (r"^pool\.linear2\.", "pooling.scores.")]

_SE: Rules = [
    (r"\.se\.fc\.0\.", ".se.squeeze."),
    (r"\.se\.fc\.2\.", ".se.excite."),
    (r"\.downsample\.", ".shortcut."),
]


def _dense_layer(match: re.Match[str]) -> str:
    return f"blocks.{2 * (int(match[1]) - 1)}.layers.{int(match[2]) - 1}."


RULES: dict[str, Rules] = {
    "campplus": [
        (r"^head\.layer(\d+)\.(\d+)\.", lambda m: f"head.blocks.{2 * (int(m[1]) - 1) + int(m[2])}."),
        (r"^xvector\.tdnn\.linear\.", "tdnn."),
        (r"^xvector\.tdnn\.nonlinear\.batchnorm\.", "bn_tdnn."),
        (r"^xvector\.block(\d+)\.tdnnd(\d+)\.", _dense_layer),
        (r"^xvector\.transit(\d+)\.", lambda m: f"blocks.{2 * int(m[1]) - 1}."),
        (r"^xvector\.out_nonlinear\.batchnorm\.", "bn_frames."),
        (r"^xvector\.dense\.linear\.", "fc."),
        (r"^xvector\.dense\.nonlinear\.batchnorm\.", "bn_embedding."),
        (r"\.nonlinear(\d)\.batchnorm\.", r".bn\1."),
        (r"\.nonlinear\.batchnorm\.", ".bn."),
        (r"\.cam_layer\.linear_local\.", ".conv2."),
        (r"\.cam_layer\.linear1\.", ".squeeze."),
        (r"\.cam_layer\.linear2\.", ".excite."),
        (r"(layers\.\d+)\.linear1\.", r"\1.conv1."),
        (r"^(blocks\.\d+)\.linear\.", r"\1.conv."),
    ],
    "ecapa_tdnn": [
        (r"^layer(\d+)\.se_res2block\.", lambda m: f"blocks.{int(m[1]) - 2}."),
        (r"^(blocks\.\d+)\.0\.", r"\1.layer1."),
        (r"^(blocks\.\d+)\.1\.", r"\1.res2."),
        (r"^(blocks\.\d+)\.2\.", r"\1.layer2."),
        (r"^(blocks\.\d+)\.3\.linear1\.", r"\1.squeeze."),
        (r"^(blocks\.\d+)\.3\.linear2\.", r"\1.excite."),
        (r"^conv\.", "merge."),
        *_CONTEXT_POOLING,
        (r"^bn\.", "bn_pooled."),
        (r"^linear\.", "fc."),
        (r"^bn2\.", "bn_embedding."),
    ],
    "ecapa_speechbrain": [
        (r"^blocks\.0\.", "layer1."),
        (r"^blocks\.(\d+)\.", _one_less("blocks.")),
        (r"\.tdnn(\d)\.", r".layer\1."),
        (r"\.res2net_block\.blocks\.", ".res2."),
        (r"\.se_block\.conv1\.conv\.", ".squeeze."),
        (r"\.se_block\.conv2\.conv\.", ".excite."),
        (r"^mfa\.", "merge."),
        (r"^asp\.tdnn\.", "pooling.hidden."),
        (r"^asp\.conv\.conv\.", "pooling.scores."),
        (r"^asp_bn\.norm\.", "bn_pooled."),
        (r"\.conv\.conv\.", ".conv."),
        (r"\.norm\.norm\.", ".bn."),
        (r"^fc\.conv\.", "fc."),
    ],
    "eres2netv2": [
        *_STAGES,
        (r"^layer3_ds\.", "shrink."),
        (r"^fuse34\.local_att\.", "fuse.attention."),
        (r"\.fuse_models\.(\d+)\.local_att\.", r".fusions.\1.attention."),
        *_TWO_LAYERS,
    ],
    "rawnet3": [
        (r"^preprocess\.1\.", "loudness."),
        (r"^conv1\.filterbank\.(low_hz|band_hz)_$", r"filters.\1"),
        (r"^layer4\.", "merge."),
        (r"^layer(\d)\.", r"block\1."),
        (r"\.conv3\.", ".conv2."),
        (r"\.bn3\.", ".bn2."),
        (r"\.afms\.", ".scaling."),
        (r"\.residual\.0\.", ".shortcut."),
        (r"^attention\.", "scores."),
        (r"^bn5\.", "bn_pooled."),
        (r"^fc6\.", "fc."),
        (r"^bn6\.", "bn_embedding."),
    ],
    "resnet": [*_STAGES, *_TWO_LAYERS],
    "resnetse34l": [*_STAGES, *_SE, *_sap("pooling")],
    "resnetse34v2": [*_STAGES, *_SE, (r"^attention\.(\d)", r"pooling.scores.\1")],
    "simam_resnet": [
        (r"^front\.", ""),
        *_STAGES,
        (r"\.downsample\.", ".shortcut."),
        (r"^pooling\.attention\.", "pooling.scores."),
        (r"^bottleneck\.", "fc."),
    ],
    "vggvox": [(r"^netcnn\.", "layers."), *_sap("attention")],
}

_REDIM: Rules = [
    (r"^backbone\.", ""),
    (r"^stem\.0\.", "conv."),
    (r"^stem\.1\.", "norm."),
    (r"^stem_gnorm\.", "norm_frames."),
    (r"^stage(\d+)(?:_pre)?\.", r"stages.\1."),
    (r"^stage(\d+)_1d\.", r"stages.\1.context."),
    (r"^stage(\d+)_up_2d\.1\.", r"stages.\1.norms.0."),
    (r"^stage(\d+)_up_1d\.1\.", r"stages.\1.norms.1."),
    (r"^(stages\.\d+)\.0\.w$", r"\1.weigh.weights"),
    (r"^(stages\.\d+)\.2\.", r"\1.conv."),
    (r"^(stages\.\d+)\.(\d+)\.conv_block\.", lambda m: f"{m[1]}.blocks.{int(m[2]) - 3}."),
    (r"^(stages\.\d+)\.\d+\.(\d+)\.", r"\1.squeeze.\2."),
    (r"^(stages\.\d+)\.\d+\.(red_dim_conv|tcm|exp_dim_conv)\.", r"\1.context.\2."),
    (r"^(stages\.\d+)\.\d+\.(weight|bias)$", r"\1.norms.0.\2"),
    (r"\.red_dim_conv\.0\.", ".reduce."),
    (r"\.red_dim_conv\.1\.", ".norm."),
    (r"\.exp_dim_conv\.", ".expand."),
    (r"\.tcm\.", ".look."),
    (r"\.dwconvs\.", ".convs."),
    (r"\.pwconv1\.", ".merge."),
    (r"\.attention\.([kvq])_proj\.", lambda m: {"k": ".key.", "v": ".value.", "q": ".query."}[m[1]]),
    (r"\.attention\.out_proj\.", ".out."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.layer_norm\.", ".norm1."),
    (r"\.feed_forward\.intermediate_dense\.", ".forward1."),
    (r"\.feed_forward\.output_dense\.", ".forward2."),
    (r"\.conv1pw\.", ".merge1."),
    (r"\.conv2pw\.", ".merge2."),
    (r"\.se\.squeeze\.", ".excitation.squeeze."),
    (r"\.se\.exitation\.", ".excitation.excite."),
    (r"^fin_wght1d\.w$", "weigh.weights"),
    (r"^mfa\.", "merge."),
    (r"^head\.", "merge."),
    *_CONTEXT_POOLING,
    (r"^bn\.", "bn_pooled."),
    (r"^linear\.", "fc."),
    (r"^bn2\.", "bn_embedding."),
]

RULES["redimnet"] = RULES["redimnet2"] = _REDIM

_OTHER_SUMS = "backbone.inputs_weights."
"""Where wespeaker's ReDimNet has the weights of all sums, which IDRnD's has in the stages."""


def _as_redimnets(name: str, names: Collection[str]) -> str:
    """What a tensor of wespeaker's ReDimNet is called in IDRnD's."""
    if name.startswith(_OTHER_SUMS):
        number = int(name.removeprefix(_OTHER_SUMS))
        last = number == sum(each.startswith(_OTHER_SUMS) for each in names) - 1
        return "backbone.fin_wght1d.w" if last else f"backbone.stage{number}.0.w"
    name = re.sub(r"^(backbone\.stage\d+)\.(\d+)\.", lambda m: f"{m[1]}.{int(m[2]) + 2}.", name)
    return re.sub(r"^seg_1\.", "linear.", name)


_UNUSED = re.compile(
    r"torchfb\.|instancenorm\.|(frontend\.)?spec\.|preprocess\.0\.|conv1\.filterbank\.(window_|n_)|projection\.|cls_head\."
    r"|backbone\.(stage0(_pre)?\.0\.w|inputs_weights\.0)$"
)
"""What the originals keep and no embedding needs: constants of the front-end, heads for training."""

_UNUSED_OF = {"rawnet3": re.compile(r"bn1\.")}
"""The same, of one original: a normalisation that is made and never used."""


def unused(name: str, network: str) -> bool:
    """Whether the tensor `name` of an original of `network` has no part in an embedding."""
    of_network = _UNUSED_OF.get(network)
    return bool(_UNUSED.match(name) or (of_network and of_network.match(name)))


def renamed(name: str, network: str, names: Collection[str]) -> str:
    """What the tensor `name` of an original is called in `network` here.

    names: all of the original's; a few names say what they are only by those beside them.
    """
    beside = name.rpartition(".norm.")[0] + ".dwconvs.0.weight"
    if network == "redimnet" and any(each.startswith(_OTHER_SUMS) for each in names):
        name = _as_redimnets(name, names)
    for pattern, replacement in RULES[network]:
        name = re.sub(pattern, replacement, name)
    if network in ("redimnet", "redimnet2") and beside in names:
        before, _, after = name.rpartition(".norm.")
        name = f"{before}.bn.{after}"
    return name
