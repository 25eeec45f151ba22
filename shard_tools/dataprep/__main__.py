"""`python -m shard_tools.dataprep`: the command `dataprep`."""

import sys

from shard_tools.dataprep.cli import main

if __name__ == "__main__":
    sys.exit(main())
