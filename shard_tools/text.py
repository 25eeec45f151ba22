"""Text that is safe to show: no control character acts on a terminal, and no credentials are in a URL."""

from __future__ import annotations

import logging
import re

# user:password@ before the host; a name alone (user@host) may be a secret token too, and S3's secret keys
# hold slashes. What follows a host's colon, its port, is no password.
_USER_INFO = re.compile(
    r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.\-]+://?)"  # a path that was tidied up has one slash
    r"(?:[^/\s?#'\"@:]+:(?!\d{1,5}(?:/|$))[^\s?#'\"]*|[^/\s?#'\"]*)@"
)
_SECRETS = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|signature|awsaccesskeyid|googleaccessid|sig"
    r"|(?:access_?|auth_?|refresh_?|session_?|api_?)?(?:token|key)|key_?id|secret(?:_?access)?(?:_?key)?"
    r"|pass(?:word|wd|phrase)?|credentials?|key-pair-id|policy"
)
_QUERY = re.compile(rf"(?P<name>[?&;](?:{_SECRETS})=)(?:[^&;:\s'\"]|:(?!\s|$))+", re.IGNORECASE)

# C0 and C1 controls, DEL, and the marks that turn the direction of what follows.
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def redacted(text: str) -> str:
    """`text` with `***` in place of passwords, keys and signatures in the URLs that it holds."""
    text = _USER_INFO.sub(r"\g<scheme>***@", text) if "@" in text else text
    return _QUERY.sub(r"\g<name>***", text) if "=" in text else text


def printable(text: str) -> str:
    """`text` with its control characters escaped, as `\\x1b`; line ends and tabs stay."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def has_control(text: str) -> bool:
    """Whether `text` holds a character that would act on a terminal or end a line."""
    return _ACTING.search(text) is not None or "\n" in text or "\t" in text


def shown(text: str) -> str:
    """`text` fit to be shown to a person: `redacted` and `printable`."""
    return printable(redacted(text))


def counted(number: int, thing: str, form: str = "") -> str:
    """ "1 shard", "0 shards": of things whose plural takes an "s"; form: the number's, as "," for 1,000."""
    return f"{number:{form}} {thing}{'s' * (number != 1)}"


class SafeFormatter(logging.Formatter):
    """Formats log records as `logging.Formatter` does, and makes the whole fit to be shown."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))
