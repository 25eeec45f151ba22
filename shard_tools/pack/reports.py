"""Where the report of a selection lies beside the manifest: pack-selection.json, and what was left out."""

from __future__ import annotations

import re

from shard_tools.pack.selected import Report, to_json, to_table
from shard_tools.storage import Folder

_NAME = re.compile(r"pack-(?:selection(?:-\d+)?\.json|left-out(?:-\d+)?\.tsv)")


def is_report(name: str) -> bool:
    """Whether a pack may have written the file `name`."""
    return _NAME.fullmatch(name) is not None


def publish_report(site: Folder, report: Report, appended: int = 0) -> list[str]:
    """Publish a report that was asked for, and return the names of its files, the list last.

    appended: which list it is that was added, 0 for the first pack.
    """
    if not report.wanted:
        return []
    of = f"-{appended}" if appended else ""
    files = {f"pack-selection{of}.json": to_json(report)}
    if report.left or report.duplicates:
        files[f"pack-left-out{of}.tsv"] = to_table(report)
    for name, data in files.items():
        site.publish(name, data)
    return list(files)
