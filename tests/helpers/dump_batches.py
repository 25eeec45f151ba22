"""Run under torchrun: writes this rank's batches of some steps, as training would get them, as .npz."""

from __future__ import annotations

import sys

import numpy as np

from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, open_training_data
from train.data.loader import open_loader
from train.life.distributed import process_group


def main(prefix: str, first: int, last: int, arguments: list[str]) -> None:
    config = parse(arguments)
    with process_group("cpu") as process:
        data = open_training_data(config)
        plan = build_plan(data, config)
        plan.check_world(process.world)
        stream = build_stream(config, data, plan, process.rank, process.world, process.on_node)
        with open_loader(stream, first, last, workers=config.data.workers, prefetch=2) as batches:
            found = list(batches)
        names = ("audio", "label", "n", "utterance")
        arrays = {name: np.stack([batch[name].numpy() for batch in found]) for name in names}
        np.savez(f"{prefix}-{process.rank}.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
