"""`python -m models list`: what there is, from the classes themselves."""

from __future__ import annotations

import re

import pytest

from eval.export.__main__ import main
from eval.export.listing import count_macs, network_page, paper_of
from models.registry import network_names


def test_every_network_names_its_paper() -> None:
    for name in network_names():
        assert re.fullmatch(r"[A-Z].*, \".+\",.* \d{4}", paper_of(name)), name
    assert paper_of("resnetse34v2").endswith('Challenge 2020", 2020')


@pytest.mark.slow
def test_multiply_accumulates_are_those_counted_by_hand() -> None:
    """Of 2 s: 201 frames, of which the small x-vector's first layer leaves 101."""
    options = {"n_mels": 40, "channels": 8, "embedding_size": 16}
    bands = 201 * 257 * 40
    layers = 101 * (40 * 8 * 5 + 3 * 8 * 8 * 3 + 8 * 16)
    assert count_macs("tdnn", options) == (bands + layers + 32 * 16) / 2


@pytest.mark.slow
def test_a_page_has_options_and_bounds() -> None:
    page = network_page("ecapa_tdnn")
    assert page.startswith("ecapa_tdnn: 6.2 M weights, ")
    assert "  channels: a whole number from 8 to 4096 (default 512)\n" in page
    assert "  context: true or false (default true)\n" in page
    assert "Desplanques et al." in page


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_table_has_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in network_names():
        assert re.search(rf"^{name} +(\d+\.\d M +\d+\.\d\d G|- +-)  [A-Z]", said, re.MULTILINE), name


def test_an_unknown_name_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["list", "resnet35"])
    assert "campplus" in capsys.readouterr().err
