"""Who speaks in a sample of a tar that someone else made: one rule for a dataset, told or the usual one.

Nothing is guessed from what may be something else: where two places disagree, or the usual ones say
nothing and another might, the sample is refused, and the message says how to tell.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from shard_tools.dataset.keys import speaker_problem
from shard_tools.dataset.tar_members import Member, shown
from shard_tools.dataset.tar_samples import Sample, TarSamples
from shard_tools.errors import UserError
from shard_tools.records import LONGEST

Kind = Literal["usual", "folder", "json", "member", "key", "name"]
_WITH_VALUE = ("json", "member", "key", "name")
FORMS = "folder, json:FIELD, member:EXTENSION, key:PATTERN or name:NAME"

TELL = "; tell where the speaker stands: "  # what follows is --speaker-from, which not every command has

_FIELD, _EXTENSION = "speaker", "spk"
# What other toolkits call the same; a sample that has one of them needs to be told about.
_LIKE_SPEAKER = re.compile(r"(spk|spkr|speaker|talker)(s|[_-]?(id|name|label))?|client[_-]?id", re.IGNORECASE)
_LARGEST_JSON, _LARGEST_TEXT = 16 << 20, 4096  # bytes

Read = Callable[[Member], bytes]


@dataclass(frozen=True)
class SpeakerRule:
    """Where the speaker stands.

    folder: the first folder of the key; json: a field of KEY.json ("a.b" is field b of object a); member: the
    text of KEY.EXTENSION; key: the group of a pattern that is searched in the key; name: it is this one;
    usual: "speaker" in KEY.json, or KEY.spk, or else the first folder.
    """

    kind: Kind
    value: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.value)


USUAL = SpeakerRule("usual")


def parse_rule(text: str) -> SpeakerRule:
    """A rule as it is written: one of `FORMS`, or "usual". Raises ValueError with what is wrong."""
    kind, _, value = text.partition(":")
    if kind not in get_args(Kind) or bool(value) != (kind in _WITH_VALUE):
        raise ValueError(f"{shown(text)!r} does not say where the speaker stands; give {FORMS}")
    if kind == "name" and (reason := speaker_problem(value)):
        raise ValueError(f"the speaker {shown(value)!r} {reason}")
    if kind == "key":
        try:
            groups = re.compile(value).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{shown(value)!r} is no regular expression ({error})") from error
        if groups != 1:
            raise ValueError(f"the pattern {shown(value)!r} has {groups} groups; the speaker is one (…)")
    if kind == "member":
        value = value.removeprefix(".").lower()
    return SpeakerRule(kind, value)  # type: ignore[arg-type]  # one of Kind's, as was looked up


def speaker_of(sample: Sample, tar: TarSamples, rule: SpeakerRule, read: Read) -> tuple[str, str]:
    """The speaker of a sample, and in words where it stood. UserError when no speaker is to be had."""
    found: str | None
    if rule.kind == "usual":
        found, place = _usual(sample, tar, read)
    elif rule.kind == "json":
        found, place = _from_json(sample, tar, rule.value, read), f'"{rule.value}" in KEY.json'
        if found is None:
            raise UserError(f'{sample.key}: no "{rule.value}" in its JSON, or no KEY.json')
    elif rule.kind == "member":
        found, place = _from_text(sample, tar, rule.value, read), f"KEY.{rule.value}"
        if found is None:
            raise UserError(f"{sample.key}: no {rule.value} member beside it")
    elif rule.kind == "key":
        match = rule.pattern.search(sample.key)
        if match is None or match[1] is None:
            raise UserError(f"{sample.key}: the pattern {rule.value!r} does not match its key")
        found, place = match[1], "the pattern"
    elif rule.kind == "name":
        found, place = rule.value, "the name that was given"
    else:
        found, place = _folder(sample), "the first folder of the key"
    if reason := speaker_problem(found):
        raise UserError(f"{sample.key}: its speaker {shown(found)!r} ({place}) {reason}{_told()}")
    return found, place


def json_object(sample: Sample, tar: TarSamples, read: Read) -> dict[str, Any] | None:
    """KEY.json of a sample, None when it has none.

    Raises UserError when it is no JSON object, or names a field twice.
    """
    member = tar.beside(sample, "json")
    if member is None:
        return None
    name = shown(member.name)
    if member.size > _LARGEST_JSON:
        raise UserError(f"{name}: {member.size} bytes; {_LARGEST_JSON} at most are read")
    try:
        # Not msgspec: it takes the last of two equal fields, and Python's writers put NaN into other fields.
        document = json.loads(read(member), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:LONGEST]
        raise UserError(f"{name}: not JSON ({shown(reason)}){_told()}") from error
    if not isinstance(document, dict):
        raise UserError(f'{name}: not a JSON object with a "{_FIELD}" but {_kind_of(document)}{_told()}')
    return document


def _usual(sample: Sample, tar: TarSamples, read: Read) -> tuple[str, str]:
    document = json_object(sample, tar, read) or {}
    inside = _from_json(sample, tar, _FIELD, read) if _FIELD in document else None
    beside = _from_text(sample, tar, _EXTENSION, read)
    if inside is not None and beside is not None and inside != beside:
        raise UserError(
            f"{sample.key}: its JSON says speaker {shown(inside)!r}, its .{_EXTENSION} {shown(beside)!r}"
            + _told()
        )
    if inside is not None:
        return inside, f'"{_FIELD}" in KEY.json'
    if beside is not None:
        return beside, f"KEY.{_EXTENSION}"
    like = [field for field in document if _LIKE_SPEAKER.fullmatch(field)]
    if like:
        raise UserError(f'{sample.key}: no "{_FIELD}" in its JSON but "{like[0]}"{_told(f"json:{like[0]}")}')
    if tar.beside(sample, "cls") is not None:
        raise UserError(f"{sample.key}: its speaker may be its .cls or its folder{_told('member:cls')}")
    return _folder(sample), "the first folder of the key"


def _from_json(sample: Sample, tar: TarSamples, path: str, read: Read) -> str | None:
    value: Any = json_object(sample, tar, read)
    if value is None:
        return None
    if path not in value:
        *outer, path = path.split(".")
        for field in outer:
            value = value.get(field)
            if not isinstance(value, dict):
                return None
        if path not in value:
            return None
    value = value[path]
    # A whole number has one spelling; other numbers, null, true and objects name nobody.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UserError(f'{sample.key}: "{path}" in its JSON is {_kind_of(value)}, no name{_told()}')
    return value


def _from_text(sample: Sample, tar: TarSamples, extension: str, read: Read) -> str | None:
    member = tar.beside(sample, extension)
    if member is None:
        return None
    name = shown(member.name)
    if member.size > _LARGEST_TEXT:
        raise UserError(f"{name}: {member.size} bytes, too many for a speaker's name")
    try:
        return read(member).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text, so no speaker's name") from error


def _folder(sample: Sample) -> str:
    folder, slash, _ = sample.key.partition("/")
    if not slash:
        raise UserError(
            f'{sample.key}: no speaker: no "{_FIELD}" in a KEY.json, no KEY.{_EXTENSION}, no folder in its'
            f" name{_told()}"
        )
    if sample.name.outside:
        inner = f"{re.escape(folder)}/" if "/" in sample.key.removeprefix(f"{folder}/") else ""
        raise UserError(
            f"{sample.title}: the first folder of a name that is absolute or leads out of the tar"
            f" is no speaker{_told(f'key:^{inner}([^/]+)/')}"
        )
    if folder.startswith(".") or "\\" in folder:
        raise UserError(f"{sample.key}: the folder {folder!r} is no speaker{_told()}")
    return folder


def _told(proposed: str = FORMS) -> str:
    return f"{TELL}--speaker-from {proposed if proposed == FORMS else repr(proposed)}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the field {shown(twice)!r} stands in it twice")
    return document


def _kind_of(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"the number {value!r}"
    return {dict: "an object", list: "a list", str: "a text", int: "a number"}[type(value)]
