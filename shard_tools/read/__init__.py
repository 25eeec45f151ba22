"""From (shard, sample, first, count) to audio: sources of bytes, verified or not, and the reader."""

from shard_tools.read.reader import Reader, ReadError

__all__ = ["ReadError", "Reader"]
