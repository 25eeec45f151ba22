"""A run's first batch: python start_once.py URL WORKERS SPEAKERS → JSON.

Prints `opening`, the seconds from a process that has imported all that training imports, and has its
configuration, to the first batch, of which `catalogue` went by until manifest, indexes and plan were there;
and `at`, time.time() then.
"""

from __future__ import annotations

import json
import sys
import time

import torch

import train.run  # noqa: F401 (what a training process has imported)
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, configure_storage, open_training_data
from train.data.loader import open_loader


def main() -> None:
    url, workers, speakers = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    arguments = ["--data.url", url, "--data.workers", str(workers), "--batch.speakers", speakers]
    config = parse([*arguments, "--train.steps", "1000"])
    began = time.perf_counter()
    configure_storage(config.data)
    data = open_training_data(config)
    stream = build_stream(config, data, build_plan(data, config), rank=0, world=1, on_node=1)
    opened = time.perf_counter()
    with open_loader(stream, 0, 1000, workers=workers, prefetch=config.data.prefetch) as batches:
        batch = next(batches)
        found, at = time.perf_counter(), time.time()
        assert len(batch["audio"]) == int(speakers)
        print(json.dumps({"opening": found - began, "catalogue": opened - began, "at": at}), flush=True)


if __name__ == "__main__":
    main()
