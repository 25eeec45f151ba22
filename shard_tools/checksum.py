"""CRC-32 as zlib computes it, by ISA-L where that is installed: four times as fast."""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # there are no wheels for some machines
    from zlib import crc32

__all__ = ["crc32"]
