"""From (shard, sample, first, count) to audio: sources of bytes, verified or not, and the reader."""
