"""What no run can use, though each value by itself is of its type and within its bounds."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import counted
from train.augment.draw import ADDITIVE, KINDS, SOURCES
from train.augment.sections import AugmentConfig
from train.augment.speed import check_speeds
from train.config.bounds import check_values
from train.config.lengths import check_lengths
from train.config.sections import Config, TrainConfig
from train.optim import build_schedule
from train.plan import shares
from train.progress import Progress

MOST_CROP_FRAMES_OF_AN_UTTERANCE = 100_000  # 1,000 s of audio, 32 MB, some dozens of which are in memory
MOST_FRAMES_OF_A_BATCH = 100_000_000  # 64 GB over all processes
MOST_BATCHES_AHEAD = 4096  # of each process
HIGHEST_RATE = 1e6


def order(config: Config) -> Literal["epoch", "windows"]:
    if config.data.order == "auto":
        return "windows" if config.data.access == "cached" else "epoch"
    return config.data.order


def check(config: Config) -> None:
    """Raise UserError naming the first key whose value no run can use."""
    check_values(config)
    if storage.local_path(config.run.folder) != config.run.folder:
        raise UserError(
            f"run.folder is {config.run.folder}; it must be a path of a file system, for the run's log and "
            f"lock: only its checkpoints can lie elsewhere (checkpoint.url {config.run.folder}/checkpoints)"
        )
    if config.data.access == "cached" and config.data.cache.folder is None:
        raise UserError("data.access is cached: give data.cache.folder a folder on the node's own disk")
    copies = config.augment.copy.folder
    if copies is not None and storage.local_path(copies) is None:
        raise UserError(f"augment.copy.folder is {copies}; it must be a path, on a disk of the node itself")
    if config.data.verify == "shards" and config.data.access != "cached":
        raise UserError(
            "data.verify is shards, which needs data.access cached: crops that are read where the shards lie "
            "are verified by data.verify crops"
        )
    if config.batch.leftover == "rollover" and order(config) == "windows":
        auto = ", which means windows for data.access cached" if config.data.order == "auto" else ""
        raise UserError(
            f"batch.leftover is rollover, and data.order is {config.data.order}{auto}: windows hold other "
            "shards together each epoch, so that what one leaves out cannot come first in the next; set "
            "batch.leftover drop, or data.order epoch"
        )
    _check_crops(config)
    _check_datasets(config)
    _check_products(config)
    _check_norms(config.train)
    _check_schedule(config)
    if config.train.epochs:
        check_lengths(config, config.train.epochs)
    if (config.train.steps is None) == (config.train.epochs is None):
        raise UserError(
            f"train.steps is {config.train.steps} and train.epochs is {config.train.epochs}: give exactly one"
        )
    if (config.validation.trials is None) != (config.validation.data is None):
        missing = "data" if config.validation.data is None else "trials"
        raise UserError(f"validation needs both trials and data: validation.{missing} is not set")
    if config.init.average is not None and config.init.from_ is None:
        raise UserError(
            f"init.average is {config.init.average}, and init.from is not set: give it the run whose "
            "checkpoints are to be averaged"
        )
    _check_augment(config.augment)
    _check_wandb(config.train)


def _check_crops(config: Config) -> None:
    shortest, longest = config.data.shortest_crop(), config.data.longest_crop()
    if shortest > longest:
        raise UserError(f"data.crop_frames is [{shortest}, {longest}]; the shorter length comes first")
    if config.train.compile and shortest < longest:
        raise UserError(
            f"train.compile is true, and data.crop_frames is [{shortest}, {longest}]: the network would be "
            f"compiled anew for one length after another; set train.compile false, or one length"
        )


def _check_datasets(config: Config) -> None:
    """How several datasets go together, as far as their speakers' names need not be known."""
    data, batch = config.data, config.batch
    if data.weights is not None and len(data.weights) != len(data.urls):
        raise UserError(
            f"data.weights has {counted(len(data.weights), 'number')}, and data.url "
            f"{counted(len(data.urls), 'dataset')}: give each dataset one, or null for equal ones"
        )
    if isinstance(data.exclude, list) and len(data.exclude) != len(data.urls):
        raise UserError(
            f"data.exclude has {counted(len(data.exclude), 'file')}, and data.url "
            f"{counted(len(data.urls), 'dataset')}: give each dataset one or null, or give one file "
            "for all"
        )
    if len(data.urls) == 1:
        return
    if batch.leftover == "rollover" and data.same_speakers == "joined":
        raise UserError(
            "batch.leftover is rollover, and data.same_speakers is joined: whom one dataset has put into a "
            "batch another cannot, so that not all utterances are used equally often; set batch.leftover to "
            "drop, or data.same_speakers to apart"
        )
    shares(batch.speakers, data.shares, data.windows.lanes if order(config) == "windows" else 1)


def _check_products(config: Config) -> None:
    """What is harmless alone, and together more than a machine holds."""
    data, batch, validation = config.data, config.batch, config.validation
    rows = batch.speakers * batch.utterances_per_speaker
    for what, product, most in (
        (
            f"validation.crops {validation.crops} of validation.crop_frames {validation.crop_frames} are "
            "{} feature frames of each utterance",
            validation.crops * validation.crop_frames,
            MOST_CROP_FRAMES_OF_AN_UTTERANCE,
        ),
        (
            f"batch.speakers {batch.speakers} x batch.utterances_per_speaker {batch.utterances_per_speaker} "
            f"crops of data.crop_frames {data.longest_crop()} are {{}} feature frames in a global batch",
            rows * data.longest_crop(),
            MOST_FRAMES_OF_A_BATCH,
        ),
        (
            f"data.workers {data.workers} with data.prefetch {data.prefetch} each prepare {{}} batches ahead",
            data.workers * data.prefetch,
            MOST_BATCHES_AHEAD,
        ),
    ):
        if product > most:
            raise UserError(f"{what.format(product)}; at most {most} can be: lower one of them")


def _check_norms(train: TrainConfig) -> None:
    """BatchNorm's statistics come from one set of rows."""
    if train.sync_norm and train.norm_rows is not None:
        raise UserError(
            f"train.norm_rows is {train.norm_rows} and train.sync_norm is true: statistics come from groups "
            "of rows or from the whole batch; leave one of them out"
        )
    if train.sync_norm and train.accumulate > 1:
        raise UserError(
            f"train.sync_norm is true and train.accumulate is {train.accumulate}: the rows of a batch are "
            "never there together; set train.norm_rows instead, or train.accumulate 1"
        )
    if train.deterministic and train.cudnn_benchmark:
        raise UserError(
            "train.deterministic and train.cudnn_benchmark are both true: which algorithm is the fastest is "
            "another one each time; leave one of them out"
        )
    if train.precision == "fp16" and train.device == "cpu":
        raise UserError("train.precision is fp16, which is for GPUs: on a CPU take bf16 or fp32")


def _check_schedule(config: Config) -> None:
    """A rate that grows, as a search for the best one has it, must not grow beyond all bounds."""
    steps, epochs = (config.train.steps or 1) - 1, (config.train.epochs or 1) - 1
    end = Progress(max(steps, 0), max(epochs, 0), float(max(epochs, 0)), steps + 1)
    try:
        factor = build_schedule(config.schedule.name, config.schedule.options)(end)
        beyond = factor > 1 and config.optim.lr * factor > HIGHEST_RATE
    except OverflowError:
        beyond = True
    if beyond:
        raise UserError(
            f"schedule.options {config.schedule.options} take the learning rate {config.optim.lr} beyond "
            f"{HIGHEST_RATE:g} by the run's end; let it grow less, or less often"
        )


def _check_augment(augment: AugmentConfig) -> None:
    for kind in KINDS:
        low, high = getattr(getattr(augment, kind), "snr", (0.0, 0.0))
        if low > high:
            raise UserError(f"augment.{kind}.snr is [{low}, {high}]; the lower bound comes first")
    low, high = augment.babble.clips
    if low > high:
        raise UserError(f"augment.babble.clips is [{low}, {high}]; the lower count comes first")
    given = {source for source in SOURCES if getattr(augment, source).url is not None}
    if augment.chained.weight > 0 and ("reverberation" not in given or not given & set(ADDITIVE)):
        raise UserError(
            f"augment.chained.weight is {augment.chained.weight}, which needs augment.reverberation.url and "
            "the url of music, babble or noise"
        )
    if not any(getattr(augment, kind).weight > 0 for kind in ("none", "chained", *given)):
        raise UserError(
            "augment leaves nothing to choose: give augment.none.weight or the weight of a section "
            "that has a url a value above 0"
        )
    laws = augment.telephone.laws
    if not laws or len(set(laws)) != len(laws):
        raise UserError(
            f"augment.telephone.laws is [{', '.join(laws)}]; give mulaw, alaw or both, each once "
            "(augment.telephone.probability 0 leaves the telephone out)"
        )
    check_speeds(augment.speed)


def _check_wandb(train: TrainConfig) -> None:
    if train.wandb == "none":
        return
    found = find_spec("wandb")
    # A folder of that name, such as W&B itself leaves behind, is a package without an origin.
    if found is None or found.origin is None:
        raise UserError(
            f"train.wandb is {train.wandb}, and wandb is not installed: pip install 'voxshard[wandb]', or "
            "set train.wandb none"
        )
    name, refused = train.wandb_project, "/\\#?%:"
    if not 1 <= len(name) <= 128 or set(name) & set(refused):
        raise UserError(
            f"train.wandb_project is {name!r}; Weights & Biases takes 1 to 128 characters, none of {refused}"
        )
