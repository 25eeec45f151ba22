"""The sections of a training run's configuration: a dataclass each, which YAML and the command line fill.

A number's bounds stand beside it, inclusive; for a list or a pair they hold for each of its numbers. They
keep out what no run can mean, such as a number of processes that no machine bears; train/config/bounds.py
checks them, and that every number is finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from models.options import Within
from train.augment.sections import AugmentConfig
from train.optim.sections import OptimConfig, ScheduleConfig

_Count = Annotated[int, Within(1, 1_000_000_000)]


@dataclass
class RunConfig:
    """The run as a whole.

    Args:
        folder: Everything that the run writes goes here; starting again with the same folder resumes. It is a
            path of a file system: only checkpoints can go elsewhere (checkpoint.url).
        seed: Keys every random choice: weights, plan, crops, augmentation.
    """

    folder: str = "runs/train"
    seed: Annotated[int, Within(0, 2**32 - 1)] = 0


@dataclass
class CacheConfig:
    """Whole shards on a node's own disk, shared by its processes (data.access cached).

    Args:
        folder: Where, on a disk of the node itself; several jobs may share one folder.
        capacity: GiB that the folder may hold.
    """

    folder: str | None = None
    capacity: Annotated[float, Within(0.0001, 1e6)] = 100.0


@dataclass
class WindowsConfig:
    """The order by windows of shards (data.order windows).

    Args:
        lanes: Parts of every batch that read shards of their own; the number of processes must divide it.
        shards: Shards of each lane that are mixed at a time.
    """

    lanes: Annotated[int, Within(1, 65_536)] = 1
    shards: Annotated[int, Within(1, 1_000_000)] = 16


@dataclass
class StorageConfig:
    """Patience with the store.

    Args:
        attempts: How often a request is tried while its error may pass.
        first_wait: Seconds before the second try; each further wait is twice as long.
        connect_timeout: Seconds to connect.
        read_timeout: Seconds without a byte.
        connections: Requests of a process that are under way at once (null: up to 384; by fsspec 32).
    """

    attempts: Annotated[int, Within(1, 100)] = 8
    first_wait: Annotated[float, Within(0.001, 600)] = 0.25
    connect_timeout: Annotated[float, Within(0.001, 3600)] = 10.0
    read_timeout: Annotated[float, Within(0.001, 3600)] = 60.0
    connections: Annotated[int | None, Within(1, 1024)] = None


@dataclass
class DataConfig:
    """The training shards and how they are read.

    Args:
        url: Folder of a manifest.json made by make-shards: a path, s3://bucket/prefix, any fsspec URL; or a
            list of them, to train on several datasets. An epoch is one pass of the first; the others go
            through theirs at their own pace.
        weights: What each dataset of a list gives of a batch's speakers, such as [3, 1] (null: equally much).
        same_speakers: Of a name that several datasets have, refuse says which it is; joined makes one speaker
            of it, who is never twice in a batch; apart makes one of each.
        exclude: A file of keys, one a line, of utterances that are left out, as python -m eval audit writes
            it; for several datasets a list of files too, one for each or null.
        crop_frames: Length of a crop in feature frames of 10 ms; 200 is 32,240 audio frames (2.015 s). Two,
            as [200, 400], are the shortest and the longest: a global batch has one length, drawn by its step.
        workers: Reading processes per rank; 0 reads in the training process.
        prefetch: Batches that each worker prepares ahead.
        access: direct reads crops where the shards lie, by position or ranged request; cached brings whole
            shards to the node.
        order: epoch mixes the whole epoch; windows mixes a window of shards at a time; auto takes windows
            for cached.
        verify: none; crops checks the blocks of 8 KiB that hold a crop; shards checks each whole shard that
            is brought to the cache.
        on_error: fail names what cannot be read and ends; substitute takes another utterance of the speaker.
        max_substituted: Above this share of substituted samples the run ends.
        ahead_mib: Memory of each worker for crops that are on their way, MiB.
        cache: The cache.
        windows: The windows.
        storage: Patience with the store.
    """

    url: str | list[str]
    weights: Annotated[list[float] | None, Within(0.0001, 1e6)] = None
    same_speakers: Literal["refuse", "joined", "apart"] = "refuse"
    exclude: str | list[str | None] | None = None
    crop_frames: Annotated[int | tuple[int, int], Within(1, 10_000)] = 200
    workers: Annotated[int, Within(0, 256)] = 2
    prefetch: Annotated[int, Within(1, 256)] = 4
    access: Literal["direct", "cached"] = "direct"
    order: Literal["auto", "epoch", "windows"] = "auto"  # parse() puts one of the others for auto
    verify: Literal["none", "crops", "shards"] = "none"
    on_error: Literal["fail", "substitute"] = "fail"
    max_substituted: Annotated[float, Within(0, 1)] = 0.001
    ahead_mib: Annotated[int, Within(0, 16_384)] = 64
    cache: CacheConfig = field(default_factory=CacheConfig)
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)

    def shortest_crop(self) -> int:
        """Feature frames of the shortest crop."""
        return self.crop_frames if isinstance(self.crop_frames, int) else self.crop_frames[0]

    def longest_crop(self) -> int:
        """Feature frames of the longest crop."""
        return self.crop_frames if isinstance(self.crop_frames, int) else self.crop_frames[1]

    @property
    def urls(self) -> list[str]:
        """The datasets, one or several."""
        return [self.url] if isinstance(self.url, str) else self.url

    @property
    def shares(self) -> list[float]:
        """The weight of each dataset."""
        return [1.0] * len(self.urls) if self.weights is None else self.weights


@dataclass
class BatchConfig:
    """The global batch, the same for any number of processes: no speaker is in it twice.

    Args:
        speakers: Speakers in a global batch; every number of processes that divides it can train.
        utterances_per_speaker: 1 for classification losses, 2 or more for metric learning.
        max_utterances_per_speaker: At most so many utterances of a speaker an epoch (null: all).
        leftover: What an epoch leaves out (over the maximum, too few for a group, or not filling a batch):
            drop, another random choice each epoch; rollover, it comes first in the next, so that each of a
            speaker's utterances is used equally often.
    """

    speakers: Annotated[int, Within(1, 1_000_000)] = 200
    utterances_per_speaker: Annotated[int, Within(1, 10_000)] = 1
    max_utterances_per_speaker: Annotated[int | None, Within(1, 1_000_000_000)] = 500
    leftover: Literal["drop", "rollover"] = "drop"


@dataclass
class ModelConfig:
    """The network.

    Args:
        name: One of the networks listed below.
        options: The network's own options.
    """

    name: str = "resnetse34l"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class InitConfig:
    """Weights of another run to begin with, without its optimiser; a run that is resumed has its own.

    Args:
        from_: A checkpoint, or a run or a folder of checkpoints, of which the best is taken (RUN/newest takes
            the newest); a path or any URL (null: random weights).
        average: Take the mean of so many of the newest checkpoints of the run in place of its best one.
        head: The loss's weights. auto keeps them where loss and training shards are the same, those of the
            speakers at this run's speeds, and where lists were appended to the shards, those of the speakers
            of before; keep refuses to begin without them; leave begins them anew.
    """

    # `from` is a word of Python's own: nobody else sees the underscore (parsing.py, kept.py, bounds.py).
    from_: str | None = None
    average: Annotated[int | None, Within(1, 100_000)] = None
    head: Literal["auto", "keep", "leave"] = "auto"


@dataclass
class LossConfig:
    """The loss.

    Args:
        name: One of the losses listed below.
        options: The loss's own options.
        sharded: Each process holds the classification head of its own share of the speakers, for more
            speakers than a GPU can hold. The same is learnt.
    """

    name: str = "aamsoftmax"
    options: dict[str, Any] = field(default_factory=dict)
    sharded: bool = False


@dataclass
class TrainConfig:
    """How long, and on what.

    Args:
        steps: Train for so many steps (give this or epochs).
        epochs: Train for so many epochs (give this or steps). By windows of shards epochs differ a little in
            length, and one counts as many steps as the first window promises.
        device: auto takes a GPU where there is one.
        precision: bf16 and fp16 run the network under autocast, fp16 with its gradients scaled (GPUs only);
            losses and optimiser stay in float32.
        compile: Compile the network by torch.compile.
        channels_last: Keep convolutions' weights in channels-last order, which some CPUs, and GPUs in half
            precision, compute faster.
        deterministic: On a GPU, take only algorithms that give the same bits each time, which are slower, and
            refuse the others by name. On CPUs runs are the same to the bit without it.
        cudnn_benchmark: Let cuDNN try its algorithms for each length of crops, and keep the fastest.
        accumulate: Pass a rank's rows in so many pieces, one after the other, in a part of the memory. A loss
            that compares rows still compares all of them, by a second pass over the network.
        norm_rows: BatchNorm takes its statistics from each so many consecutive rows of the global batch, so
            that any number of processes learns the same (null: from the rows that a process has at a time).
        sync_norm: BatchNorm takes its statistics from the whole global batch, over all processes.
        ema: Decay of a moving average of the network's weights, which validation and evaluation take then,
            such as 0.999; 0 for none.
        log_every: Steps between lines of metrics.jsonl.
        wandb: Send what is logged to Weights & Biases too (pip install 'voxshard[wandb]'): online at once;
            offline into wandb/ in run.folder, for `wandb sync`. A run that goes on is the same one there.
        wandb_project: The project there.
        dry: Build everything, run one step, say what a run would cost, and leave nothing behind.
    """

    steps: Annotated[int | None, Within(0, 1_000_000_000)] = None
    epochs: Annotated[int | None, Within(0, 1_000_000)] = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = False
    cudnn_benchmark: bool = False
    accumulate: Annotated[int, Within(1, 65_536)] = 1
    norm_rows: Annotated[int | None, Within(2, 1_000_000)] = None
    sync_norm: bool = False
    ema: Annotated[float, Within(0, 0.999999)] = 0.0
    log_every: _Count = 10
    wandb: Literal["none", "online", "offline"] = "none"
    wandb_project: str = "voxshard"
    dry: bool = False


@dataclass
class ValidationConfig:
    """Error rates during training.

    Args:
        trials: Trial list, lines of "label path path" (null: no validation).
        data: Shards or a folder with the trials' utterances.
        every: Steps between validations; there is one at the end too.
        crops: Crops per utterance; 0 takes whole utterances.
        crop_frames: Length of a crop in feature frames of 10 ms.
    """

    trials: str | None = None
    data: str | None = None
    every: _Count = 1000
    crops: Annotated[int, Within(0, 1000)] = 0
    crop_frames: Annotated[int, Within(1, 100_000)] = 400


@dataclass
class CheckpointConfig:
    """Checkpoints: written whole or not at all, the newest ones and the best one kept.

    Args:
        url: Where they go, any fsspec URL (null: checkpoints/ in run.folder).
        every: Steps between them; there is one at the start and one at the end too.
        keep: How many of the newest are kept besides the best.
        background: Write them in a thread while training goes on, from a copy in the host's memory.
    """

    url: str | None = None
    every: _Count = 1000
    keep: Annotated[int, Within(1, 100_000)] = 3
    background: bool = True


@dataclass
class Config:
    """A training run.

    Args:
        data: Training shards.
        run: Folder and seed.
        batch: The global batch.
        augment: Augmentation.
        model: Network.
        init: Weights to begin with.
        loss: Loss.
        optim: Optimiser.
        schedule: Learning-rate schedule.
        train: Length, device, precision.
        validation: Error rates during training.
        checkpoint: Checkpoints.
    """

    data: DataConfig
    run: RunConfig = field(default_factory=RunConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def checkpoint_url(self) -> str:
        return self.checkpoint.url or f"{self.run.folder}/checkpoints"
