"""Archives made in memory."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def zip_of(files: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    """With an entry for each folder, as zip(1) makes them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            archive.writestr(f"{folder}/", b"")
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
