"""Networks by name, and options that are wrong in every way."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from models.options import ModelError, Within, complete_options, describe_options
from models.registry import build_network, network_names


@pytest.mark.parametrize("name", ["resnetse34l", "tdnn"])
def test_every_network_builds_and_says_its_size(name: str) -> None:
    assert name in network_names()
    assert isinstance(build_network(name, {}).embedding_size, int)
    assert build_network(name, {"embedding_size": 48}).embedding_size == 48


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnett",
            {},
            "unknown network 'resnett'; there are: campplus, ecapa_speechbrain, ecapa_tdnn, eres2netv2, ",
        ),
        (
            "resnetse34l",
            {"nmels": 40},
            "network \"resnetse34l\" has no option 'nmels'; "
            "its options: n_mels, log_input, pooling, embedding_size",
        ),
        ("resnetse34l", {"n_mels": "40"}, "option 'n_mels' is '40' (str), it must be a whole number (int)"),
        ("resnetse34l", {"n_mels": True}, "option 'n_mels' is True (bool), it must be a whole number (int)"),
        ("resnetse34l", {"n_mels": 40.0}, "option 'n_mels' is 40.0 (float), it must be a whole number (int)"),
        ("resnetse34l", {"n_mels": 4}, "option 'n_mels' is 4, it must be a whole number (int) from 8 to 257"),
        ("resnetse34l", {"log_input": 1}, "option 'log_input' is 1 (int), it must be true or false (bool)"),
        ("resnetse34l", {"pooling": "SAP"}, "option 'pooling' is 'SAP', it must be one of: sap, asp"),
        ("resnetse34l", {"pooling": ["sap"]}, "option 'pooling' is ['sap'], it must be one of: sap, asp"),
        (
            "tdnn",
            {"embedding_size": 0},
            "option 'embedding_size' is 0, it must be a whole number (int) from 1 to 8192",
        ),
        ("tdnn", {"embedding_size": None}, "option 'embedding_size' is None (NoneType)"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as raised:
        build_network(name, options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def thing(
    *, ratio: Annotated[float, Within(0, 1)] = 0.5, kind: Literal["a", "b"] = "a", note: str = ""
) -> None:
    """Stands for a network."""


def test_whole_numbers_pass_for_floats_and_come_back_as_floats() -> None:
    checked = complete_options("thing", thing, {"ratio": 1, "kind": "b"})
    assert checked == {"ratio": 1.0, "kind": "b", "note": ""}
    assert type(checked["ratio"]) is float


def test_options_are_described() -> None:
    assert describe_options(thing) == [
        "ratio: a number from 0 to 1 (default 0.5)", "kind: a or b (default a)", 'note: text (default "")',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.5}, "thing: option 'ratio' is 1.5, it must be a number (float) from 0 to 1"),
        ({"ratio": float("nan")}, "thing: option 'ratio' is nan, it must be a finite number"),
        ({"ratio": True}, "thing: option 'ratio' is True (bool), it must be a number (float)"),
        (
            {"ratio": "1e-3"},
            "thing: option 'ratio' is '1e-3' (str), it must be a number (float) "
            "(YAML reads 1e-3 as text; write 0.001 or with a decimal point)",
        ),
        ({"note": 3}, "thing: option 'note' is 3 (int), it must be text (str)"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as raised:
        complete_options("thing", thing, options)
    assert str(raised.value) == message
