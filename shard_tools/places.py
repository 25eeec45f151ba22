"""Where a path or URL that a person typed leads: `~` and environment variables written out.

Shells do this on a command line, but not in a YAML file, behind `=`, or between quotes; without it
folders named "~" and "$SCRATCH" come to be.
"""

from __future__ import annotations

import os
import re

from shard_tools.errors import UserError

_VARIABLE = re.compile(r"\$(?:(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\})")


def expand(url: str) -> str:
    """`url` with a leading `~` or `~user`, `$NAME` and `${NAME}` written out, as a shell would.

    Paths of this machine only, with or without file://: keys of object stores may hold both characters.
    Idempotent where no value holds a `$` of its own.

    Raises UserError for a variable that is not set or is empty, and for a user who is not known.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme not in ("file", "local"):
        return url
    prefix, path = (scheme + separator, rest) if separator else ("", url)
    return prefix + _with_home(_VARIABLE.sub(lambda found: _value(found, url), path), url)


def _value(found: re.Match[str], url: str) -> str:
    name = found["bare"] or found["braced"]
    value = os.environ.get(name)
    if not value:
        state = "not set" if value is None else "empty"
        raise UserError(
            f"{url}: the environment variable {name} is {state}; set it, or write the path out"
            " (a folder's own name must not look like a variable)"
        )
    return value


def _with_home(path: str, url: str) -> str:
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = path.partition("/")[0]
        raise UserError(
            f"{url}: there is no home of {user}; for a file or folder of that name write ./{user}"
        )
    return expanded
