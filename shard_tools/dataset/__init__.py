"""What a shard holds and where its bytes lie: tar, index, manifest, catalogue, verification."""
