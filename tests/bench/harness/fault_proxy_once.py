"""A proxy that fails requests, until its standard input closes: python fault_proxy_once.py UPSTREAM RATE.

Prints its address. All kinds of faults but the silent one, which waits for data.storage.read_timeout.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))

from fault_proxy import KINDS, FaultProxy

WITHOUT_SUMS = ("stalled", "wrong_bytes")  # the latter only a checksum can tell


def main() -> None:
    upstream, rate = sys.argv[1], float(sys.argv[2])
    proxy = FaultProxy(upstream)
    proxy.set_faults(rate, [kind for kind in KINDS if kind not in WITHOUT_SUMS])
    print(proxy.endpoint, flush=True)
    sys.stdin.read()
    proxy.stop()


if __name__ == "__main__":
    main()
