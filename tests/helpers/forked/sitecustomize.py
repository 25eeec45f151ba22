"""Every torchrun that has this folder on its PYTHONPATH forks its ranks, as in warm.py; they train at a pace.

For tests on SLURM that start many runs: torchrun itself starts for real, its ranks are processes of
their own below it, as ever, and load nothing a second time.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

_HELPERS = Path(__file__).resolve().parents[1]
_MODULE = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"

runpy.run_path(str(_HELPERS / "paced/sitecustomize.py"))


class _Forking:
    """Finds torchrun's module that starts ranks, and has it fork them."""

    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def forking(module):
            execute(module)
            sys.path.append(str(_HELPERS))
            from warm import forks

            sys.path.remove(str(_HELPERS))
            module.SubprocessHandler._popen = forks(preloaded=("train.run",))

        spec.loader.exec_module = forking
        return spec


if "torch.distributed.run" in sys.orig_argv:
    sys.meta_path.insert(0, _Forking())
