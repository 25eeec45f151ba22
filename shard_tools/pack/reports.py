"""Where the report of a selection lies beside the manifest: pack-selection.json, and what was left out."""

from __future__ import annotations

import re

from shard_tools.pack.selected import Report, to_json, to_table
from shard_tools.storage import Folder

_NAME = re.compile(r"pack-(?:selection(?:-\d+)?\.json|left-out(?:-\d+)?\.tsv)")


def is_report(name: str) -> bool:
    """Whether a pack may have written the file `name`."""
    return _NAME.fullmatch(name) is not None


def report_names(appended: int = 0) -> tuple[str, str]:
    """(the report's name, that of the list of what was left out)."""
    of = f"-{appended}" if appended else ""
    return f"pack-selection{of}.json", f"pack-left-out{of}.tsv"


def publish_report(site: Folder, report: Report, appended: int = 0) -> list[str]:
    """Publish a report that was asked for, and return the names of its files, the list last.

    appended: which list it is that was added, 0 for the first pack. A list of an earlier pack does not stay
    beside it.
    """
    if not report.wanted:
        return []
    told, table = report_names(appended)
    files = {told: to_json(report)}
    if report.left or report.duplicates:
        files[table] = to_table(report)
    else:
        site.remove(table)
    for name, data in files.items():
        site.publish(name, data)
    return list(files)
