"""packing.json: the word that a dataset is being packed at a URL, and from which list and options.

Processes that pack the same list with the same options may work at one URL together:
whatever they publish is the same to the byte. Others are refused while this file stands.
S3 has no locks; every shard is published only after another look at this file, so that
of two packs that began in the same moment the one whose file stands is the one that goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.records import RecordError, decode, within
from shard_tools.storage import Folder

STATE_NAME = "packing.json"
_REMEDY = "run make-shards pack again: whole shards are kept"

_MOST_SHARDS = 10**7  # what merging can count
MOST_PARTS = 100_000  # more than any scheduler starts


@dataclass(frozen=True)
class Claim:
    """plan: digest of list and options; shards: how many there will be; speakers: in label order.

    parts: how many share the work; root, list, speaker: as the first was told, for messages;
    running: false after an orderly end before the end, which leaves the place to whoever comes.
    """

    plan: str
    shards: Annotated[int, within(1, _MOST_SHARDS)]
    parts: Annotated[int, within(1, MOST_PARTS)]
    root: str
    list: str | None
    options: Mapping[str, bool | int | float | str]
    speakers: tuple[str, ...]
    running: bool = True
    speaker: str | None = None


@dataclass(frozen=True)
class _Document(Claim):
    """packing.json as it lies there. digest: of the rest; earlier versions wrote none."""

    digest: str | None = None


def read(site: Folder) -> Claim | None:
    """The claim on `site`; None when there is none. Raises RecordError for one that cannot be read."""
    name = site.at(STATE_NAME)
    try:
        data = storage.read_bytes(name)
    except storage.MissingError:
        return None
    document = decode(data, _Document, name, _REMEDY)
    claim = Claim(**{field.name: getattr(document, field.name) for field in fields(Claim)})
    if document.digest not in (None, _digest(claim)):
        raise RecordError(f"{name}: field digest: it is not that of the other fields; {_REMEDY}")
    return claim


def understood(site: Folder) -> Claim | None:
    """As `read`; None also for a claim that cannot be read, which keeps nobody off."""
    try:
        return read(site)
    except RecordError:
        return None


def take(site: Folder, claim: Claim, *, overwrite: bool) -> None:
    """Claim `site`. UserError when another plan's claim stands, unless `overwrite`."""
    held = understood(site)
    if held is not None and held.running:
        if (held.plan, held.parts) == (claim.plan, claim.parts):
            return
        if held.plan != claim.plan and not overwrite:
            raise UserError(
                f"{site.at(STATE_NAME)}: a pack of another list or with other options is under way"
                " here, or was killed; wait until it ends, give another URL, or --overwrite to replace it"
            )
    _publish(site, claim)


def require(site: Folder, plan: str) -> None:
    """Raise UserError unless `site` is claimed for this plan."""
    held = read(site)
    if held is None or held.plan != plan:
        found = "has gone" if held is None else "speaks of another list or other options now"
        raise UserError(
            f"{site.at(STATE_NAME)}: {found}: another make-shards was at work here meanwhile;"
            " look at what it made with make-shards info, and run again if that is not what you want"
        )


@contextlib.contextmanager
def given_up_on_failure(site: Folder, plan: str) -> Iterator[None]:
    """Whatever ends the work inside in an orderly way leaves the place to another list or other options."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(UserError), storage.hurried():
            held = read(site)
            if held is not None and held.plan == plan:
                _publish(site, replace(held, running=False))
        raise


def _publish(site: Folder, claim: Claim) -> None:
    document = asdict(claim)
    if claim.speaker is None:  # earlier versions know no such field
        del document["speaker"]
    document["digest"] = _digest(claim)
    data = json.dumps(document, ensure_ascii=False).encode()
    site.publish(STATE_NAME, data)


def _digest(claim: Claim) -> str:
    return hashlib.sha256(json.dumps(asdict(claim), sort_keys=True).encode()).hexdigest()
