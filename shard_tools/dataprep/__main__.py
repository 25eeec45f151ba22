"""`python -m shard_tools.dataprep`: the command `dataprep`."""

import sys

if __name__ == "__main__":  # and not in worker processes, which import this module too
    from shard_tools.dataprep.cli import main

    sys.exit(main())
