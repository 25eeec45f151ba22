"""What a shard holds and where its bytes lie: tar, index, manifest, catalogue, verification."""

from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.verification import VerifySummary, verify

__all__ = ["Catalogue", "VerifySummary", "open_catalogue", "verify"]
