"""`python -m shard_tools.synthetic`: make a corpus up."""

import sys

from shard_tools.synthetic.corpus import main

if __name__ == "__main__":
    sys.exit(main())
