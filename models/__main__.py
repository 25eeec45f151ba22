"""`python -m models`: the networks there are, others' weights to ours, ours to ONNX.

The commands read and write checkpoints, which this package must not know: they lie in eval/export.
"""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    sys.exit(importlib.import_module("eval.export.__main__").main())
