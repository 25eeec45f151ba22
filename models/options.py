"""Options of components: declared once, as keyword-only arguments beside the code, checked strictly.

A network, a loss, an optimiser or a schedule says everything about its options in its signature::

    def __init__(self, *, pooling: Literal["sap", "asp"] = "sap",
                 embedding_size: Annotated[int, Within(1, 8192)] = 512) -> None: ...

so names, types, ranges and defaults have one home, and adding one of them needs no table of options
beside it. A run's own sections use `Within` in the same way.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


class ModelError(ValueError):
    """A network, a loss or an input to one that cannot be what the user meant.

    Its text is one line that names the option or the input, the value found, and
    what would be right.
    """


@dataclass(frozen=True)
class Within:
    """Inclusive bounds of a number: ``Annotated[int, Within(1, 8192)]``, ``Annotated[float, Within(0, 2)]``.

    Both must be given: an upper bound is what keeps a slip of the hand from filling the memory.
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {_plain(self.low)} to {_plain(self.high)}"


_LATER: ContextVar[bool] = ContextVar("weights come later", default=False)


@contextlib.contextmanager
def weights_follow() -> Iterator[None]:
    """Networks built within need not read pretrained weights: those of a checkpoint take their place."""
    token = _LATER.set(True)
    try:
        yield
    finally:
        _LATER.reset(token)


def weights_come_later() -> bool:
    """Whether a network is built within `weights_follow`."""
    return _LATER.get()


def _plain(number: float) -> str:
    """A bound as a person writes it: whole numbers in full."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else f"{number:g}"


def check_name(kind: str, name: str, known: Mapping[str, object]) -> None:
    """Raise ModelError unless `name` is one of `known`; `kind` ("network", "loss") is for the message."""
    if name not in known:
        raise ModelError(f"unknown {kind} {_shown(name)}; there are: {', '.join(sorted(known))}")


def complete_options(owner: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """All keyword-only arguments of `factory`: those given in `options`, checked, and the others' defaults.

    owner: what the options belong to, for messages ('network "tdnn"').
    Arguments are annotated with bool, int, float, str or a Literal of strings, or
    one of those in `Annotated[…, Within(…)]`, and have defaults. An int is taken for a float, and
    comes back as one; a bool is never taken for a number.

    Raises ModelError for an option that `factory` does not have (listing those it
    has), for a value of the wrong type, and for a value that is not allowed.
    """
    wanted = _annotations(factory)
    for name in options:
        if name not in wanted:
            valid = ", ".join(wanted) or "none at all"
            raise ModelError(f"{owner} has no option {_shown(name)}; its options: {valid}")
    defaults = _defaults(factory)
    return {
        name: _checked(f"{owner}: option {name!r}", options.get(name, defaults[name]), annotation)
        for name, annotation in wanted.items()
    }


def option_names_of(factory: Callable[..., Any]) -> list[str]:
    """The names of the options of `factory`, in order."""
    return list(_annotations(factory))


def describe_options(factory: Callable[..., Any]) -> list[str]:
    """A line for each option of `factory`: its name, what it may be, and its default."""
    defaults, hints = _defaults(factory), _annotations(factory)
    return [f"{name}: {_kind(hint)} (default {_written(defaults[name])})" for name, hint in hints.items()]


def _written(value: Any) -> str:
    """A default as it would be written in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        base, bounds = get_args(annotation)
        return f"{_PLAIN[base]} {bounds}"
    if get_origin(annotation) is Literal:
        return " or ".join(get_args(annotation))
    return _PLAIN[annotation]


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _annotations(factory: Callable[..., Any]) -> dict[str, Any]:
    """Name → annotation of the keyword-only arguments of a class or function, in order."""
    function = factory.__init__ if inspect.isclass(factory) else factory
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(factory).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}


def _checked(subject: str, value: Any, annotation: Any) -> Any:
    """`value` in the type of `annotation`; ModelError beginning with `subject` if it does not fit."""
    if get_origin(annotation) is Annotated:
        base, bounds = get_args(annotation)
        value = _checked(subject, value, base)
        if not bounds.low <= value <= bounds.high:
            raise ModelError(f"{subject} is {_shown(value)}, it must be {_ARTICLES[base]} {bounds}")
        return value
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if value not in choices:
            raise ModelError(f"{subject} is {_shown(value)}, it must be one of: {', '.join(choices)}")
        return value
    if annotation is float and type(value) is int:
        return float(value) if abs(value) < 10**300 else math.inf if value > 0 else -math.inf
    if type(value) is not annotation:
        message = f"{subject} is {_shown(value)} ({type(value).__name__}), it must be {_ARTICLES[annotation]}"
        if isinstance(value, str) and annotation is float and _is_number(value):
            message += f" (YAML reads {value} as text; write {float(value)!r} or with a decimal point)"
        raise ModelError(message)
    if annotation is float and not math.isfinite(value):
        raise ModelError(f"{subject} is {value!r}, it must be a finite number")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_ARTICLES = {
    bool: "true or false (bool)",
    int: "a whole number (int)",
    float: "a number (float)",
    str: "text (str)",
}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
