"""A run's batches for whoever has a training loop of their own."""

from __future__ import annotations

from train.config.sections import Config
from train.data.assemble import build_plan, build_stream, configure_storage, open_training_data
from train.data.loader import Loader, open_loader


def open_batches(
    config: Config, first: int, last: int, *, rank: int = 0, world: int = 1, on_node: int | None = None
) -> Loader:
    """The batches of steps [first, last) of the run that `config` describes, for one process of `world`.

        with open_batches(parse(["--config", "configs/tiny.yaml"]), 0, 100) as batches:
            for batch in batches: ...

    A batch is a dict: "audio" float32 (rows, samples), "label" int64 (rows,), "n" and "utterance" int64
    (rows,), "step" and "substituted" ints. They depend on the shards, the seed and the step alone: any
    `first` goes on exactly where another loop stopped, and the rows of all ranks are the global batch's.
    on_node: processes on this machine, all of `world` unless given: a cache must hold what they read.
    Raises UserError for what cannot be opened or shared.
    """
    configure_storage(config.data)
    data = open_training_data(config)
    plan = build_plan(data, config)
    plan.check_world(world)
    stream = build_stream(config, data, plan, rank, world, on_node=on_node or world)
    return open_loader(stream, first, last, workers=config.data.workers, prefetch=config.data.prefetch)
