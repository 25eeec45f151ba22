from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.cli import main
from shard_tools.dataset import info_plot
from shard_tools.dataset.info import PROBABILITIES, Spread
from shard_tools.pack.packing import pack


@pytest.fixture
def out(corpus, tmp_path) -> Path:
    corpus.add("lone/a.wav", 16_000)
    pack(str(corpus.root), str(tmp_path / "out"))
    return tmp_path / "out"


def test_quantiles_are_those_of_the_lengths(corpus, out, capsys):
    assert main(["info", str(out), "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    seconds = [len(samples) / 16000 for samples in corpus.samples.values()]
    speakers: dict[str, list[float]] = {}
    for path, length in zip(corpus.samples, seconds, strict=True):
        speakers.setdefault(path.split("/")[0], []).append(length)
    quantiles = description["quantiles"]
    assert quantiles["probabilities"] == list(PROBABILITIES)
    for name, values in {
        "duration_s": seconds,
        "seconds_per_speaker": [sum(lengths) for lengths in speakers.values()],
        "utterances_per_speaker": [len(lengths) for lengths in speakers.values()],
    }.items():
        rounded = 0.051 if name.startswith("utterances") else 0.00051
        assert quantiles[name] == pytest.approx(np.quantile(values, PROBABILITIES), abs=rounded)
    assert description["speakers_with_one_utterance"] == 1
    assert description["hours"] == pytest.approx(sum(seconds) / 3600, abs=1e-4)
    assert main(["info", str(out)]) == 0
    lines = {line[:24].strip(): line[24:] for line in capsys.readouterr().out.splitlines()}
    assert [float(text) for text in lines["seconds per speaker"].split()] == pytest.approx(
        quantiles["seconds_per_speaker"], rel=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "svg"])
def test_the_figure_is_written_and_always_the_same(out, tmp_path, capsys, kind):
    path = tmp_path / f"figure.{kind}"
    assert main(["info", str(out), "--plot", str(path)]) == 0
    assert "utterances" in capsys.readouterr().out
    first = path.read_bytes()
    if kind == "svg":
        for words in ("duration of an utterance (s)", "utterances of a speaker", "speech of a speaker (s)"):
            assert words in first.decode()
    else:
        picture = matplotlib.image.imread(path, format="png")
        assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10
    assert main(["info", str(out), "--plot", str(path)]) == 0
    assert path.read_bytes() == first


def test_other_kinds_of_figures_are_refused_before_anything_is_read(capsys):
    with pytest.raises(SystemExit):
        main(["info", "nowhere", "--plot", "figure.gif"])
    assert "'figure.gif' is neither FILE.png nor FILE.svg" in capsys.readouterr().err


@pytest.mark.slow
def test_a_figure_that_cannot_be_written_is_one_line(out, capsys):
    assert main(["info", str(out), "--plot", str(out / "manifest.json" / "x.png")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@settings(max_examples=60, deadline=None)
@given(
    values=st.one_of(
        st.lists(st.integers(1, 2000), min_size=1, max_size=40).map(np.array),
        st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=40).map(np.array),
    )
)
def test_every_value_is_in_a_bar(values):
    low, high = float(values.min()), float(values.max())
    for wide in (False, True):
        edges = info_plot._edges(values, low, high, wide)
        assert (np.diff(edges) > 0).all()
        assert edges[0] <= low
        assert high <= edges[-1] or np.isclose(high, edges[-1], rtol=1e-12)
        if values.dtype.kind == "i":
            assert (edges % 1 == 0.5).all()


@pytest.mark.slow
def test_a_set_of_one_is_drawn():
    assert info_plot.plot(Spread(np.ones(1), np.array([1]), np.ones(1)), "one", "png").startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_title_is_no_formula_and_tells_no_password():
    one = Spread(np.ones(1), np.array([1]), np.ones(1))
    figure = info_plot.plot(one, "s3://me:secret@host/a$\\frac{$b$^$", "svg").decode()
    assert "s3://***@host/a$\\frac{$b$^$" in figure
    assert "secret" not in figure
