"""Every Python that has this folder on its PYTHONPATH trains slowly without work: steps wait to begin.

For tests that disturb a run in its midst: it lasts long enough on any machine, and takes no CPU for it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time

# Long, so that what disturbs a run finds it after few steps: steps take CPU, waiting takes none.
PAUSE_S = float(os.environ.get("VOXSHARD_TESTS_PACE", "0.15"))
_MODULE = "train.seeding"


class _Paced:
    """Finds that module, and has what it does before each step wait."""

    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def paced(module):
            execute(module)
            seed = module.seed_generators

            def later(*arguments):
                time.sleep(PAUSE_S)
                seed(*arguments)

            module.seed_generators = later

        spec.loader.exec_module = paced
        return spec


sys.meta_path.insert(0, _Paced())
