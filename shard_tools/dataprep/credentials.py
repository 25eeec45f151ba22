"""Who asks: user and password, or a key, from options, environment or prompt; and keeping them unseen."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

import setproctitle

from shard_tools.errors import UserError

USER, PASSWORD, KEY = "VOXCELEB_USER", "VOXCELEB_PASSWORD", "VOXCELEB_KEY"
_SHORTEST = 6
_ASK = object()  # the option stands there without a value


@dataclass(frozen=True)
class Credentials:
    """user and password, or key, or nothing."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    @property
    def options(self) -> str:
        """The options that gave them."""
        if self.key is not None:
            return "--key"
        return "--user and --password" if self.user is not None else ""

    def scrub(self, text: str) -> str:
        """`text` with `***` in place of the password and the key, however they were encoded.

        No text of ours holds them; this is for what servers and clients say.
        """
        for secret in self._forms():
            text = text.replace(secret, "***")
        return text

    def _forms(self) -> list[str]:
        # A short one could be a word of ours: taking it out of that would tell it.
        plain = [each for each in (self.password, self.key) if each and len(each) >= _SHORTEST]
        forms = {
            form for each in plain for form in (each, quote(each), quote(each, safe=""), quote_plus(each))
        }
        if self.user is not None and self.password is not None:
            for encoding in ("utf-8", "latin-1"):
                forms.add(b64encode(f"{self.user}:{self.password}".encode(encoding, "replace")).decode())
        return sorted(forms, key=len, reverse=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--user, --password, --key."""
    parser.add_argument("--user", metavar="NAME", help=f"of the VoxCeleb account (or ${USER})")
    parser.add_argument(
        "--password",
        metavar="WORD",
        nargs="?",
        const=_ASK,
        help=f"of the account; without WORD, or without the option, ${PASSWORD}, else it is asked for",
    )
    parser.add_argument(
        "--key",
        metavar="KEY",
        nargs="?",
        const=_ASK,
        help=f"instead of user and password: the access key; without KEY ${KEY}, else it is asked for",
    )


def from_options(options: argparse.Namespace) -> Credentials:
    """What the options, else the environment, else a prompt give. UserError where they do not fit together.

    What the command line holds is masked in the process's title, which all users of a machine can read.
    """
    user, password, key = options.user, options.password, options.key
    _mask_title([each for each in (password, key) if isinstance(each, str)])
    if key is not None and (user is not None or password is not None):
        raise UserError("--key and --user are two ways to say who asks; give one of them")
    if key is None and user is None and password is None:
        key = os.environ.get(KEY) or None
        if key is not None:
            return Credentials(key=key)
    if key is not None:
        if key is _ASK:
            key = os.environ.get(KEY) or _asked("access key: ", "--key", KEY)
        return Credentials(key=_filled(key, "--key"))
    user = user if user is not None else os.environ.get(USER) or None
    if user is None:
        if password is not None:
            raise UserError(f"--password needs --user (or {USER} in the environment)")
        return Credentials()
    if password is None or password is _ASK:
        password = os.environ.get(PASSWORD) or _asked(f"password of {user}: ", "--password", PASSWORD)
    return Credentials(user=_filled(user, "--user"), password=_filled(password, "--password"))


def _filled(value: str, option: str) -> str:
    if not value.strip():
        raise UserError(f"{option} is empty; leave it out to be asked, or give what the registration sent")
    return value


def _asked(prompt: str, option: str, variable: str) -> str:
    if not sys.stdin.isatty():
        raise UserError(f"{option} has no value and nobody can be asked; set {variable} in the environment")
    return getpass.getpass(prompt)


def _mask_title(secrets: list[str]) -> None:
    words = [word for word in sys.argv if any(secret and secret in word for secret in secrets)]
    if not words:  # called from Python: the secrets are on nobody's command line
        return
    title = setproctitle.getproctitle()
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        title = title.replace(secret, "***")
    setproctitle.setproctitle(title)
