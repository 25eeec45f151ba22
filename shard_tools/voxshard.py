"""`voxshard COMMAND …`: the project's programs under one name, wherever one stands.

They are the same as `python -m train`, `make-shards` and so on, but for this: Python's own `-m` would
take a train.py or a models/ of the current folder for ours.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from shard_tools.version import version

# Imported only when asked for: what is below this package must not be needed by it.
COMMANDS = {
    "train": ("train.__main__", "train a network on shards; several processes by torchrun or slurm"),
    "eval": ("eval.__main__", "error rates and a report of a checkpoint"),
    "models": ("eval.export.__main__", "the networks there are; others' weights to ours; ours to ONNX"),
    "slurm": ("slurm.__main__", "training, evaluation and packing as jobs; status, logs, cancel"),
    "shards": ("shard_tools.cli", "make, index, verify and describe shards (make-shards)"),
    "prep": ("shard_tools.dataprep.cli", "corpora from their archives to audio and lists (dataprep)"),
    "simulate": ("train.simulate.__main__", "what reading a dataset costs, and how well it mixes"),
    "synthesise": ("shard_tools.synthetic.corpus", "a corpus of made-up voices, noise and rooms"),
    "demo": ("shard_tools.synthetic.demo", "all of it, on made-up or your own speech: minutes on a CPU"),
    "recipes": ("shard_tools.recipes", "the recipes that come with the project: list them, copy them"),
}

_EXAMPLES = """\
Examples:
  voxshard recipes configs
  voxshard train --config configs/tiny.yaml --print_config
  torchrun --standalone --nproc-per-node 8 --no-python voxshard train --config configs/tiny.yaml
  voxshard slurm status
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status of the program that was chosen."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"voxshard {version()}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        print(f"voxshard: error: there is no {name!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv[:] = [f"voxshard {name}", *rest]
    status = importlib.import_module(COMMANDS[name][0]).main()
    return int(status or 0)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "".join(f"  {name:<{width}}  {what}\n" for name, (_, what) in COMMANDS.items())
    return f"usage: voxshard COMMAND …   (voxshard COMMAND --help says more)\n\n{lines}\n{_EXAMPLES}"


if __name__ == "__main__":
    sys.exit(main())
