"""`python -m eval verify` and `identify`: scores, decisions where there is a threshold, the most alike."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import write_checkpoint

from eval.__main__ import main
from eval.encoder import SpeakerEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder / "step-00000042.pt", validation={"crops": 2, "crop_frames": 30})
    return folder


def verify(folder, voices, names, *more):
    recordings = [str(voices.folder / name) for name in names]
    checkpoint = str(folder / "step-00000042.pt")
    return main(["verify", checkpoint, *recordings, "--device", "cpu", *more])


def note(folder, **more):
    record = {"step": 42, "eer": 1.25, "min_dcf": {}, "trial_list": "veri.txt"} | more
    (folder / "step-00000042.json").write_text(json.dumps(record))


def test_scores_and_decisions(folder, voices, capsys):
    assert verify(folder, voices, ["s0/00.wav", "s3/00.wav"]) == 0
    shown = capsys.readouterr().out
    score = float(shown.split()[1])
    assert "(cosine, 2 crops of 30 frames)" in shown
    assert "none: no validation of this checkpoint says" in shown
    note(folder)  # of a release that did not keep the threshold
    assert verify(folder, voices, ["s0/00.wav", "s3/00.wav"]) == 0
    assert "none: no validation" in capsys.readouterr().out
    for threshold, said in ((score - 0.01, "one speaker"), (score + 0.01, "two speakers")):
        note(folder, eer_threshold=threshold)
        assert verify(folder, voices, ["s0/00.wav", "s3/00.wav"]) == 0
        shown = capsys.readouterr().out
        assert (
            f"decision     {said} (threshold {threshold:.4f}: the checkpoint's EER, 1.25 %, on veri.txt)"
            in shown
        )
    assert verify(folder, voices, ["s0/00.wav", "s3/00.wav"], "--protocol", "whole") == 0
    assert "none: the threshold of the checkpoint's validation is for" in capsys.readouterr().out


def test_a_recording_that_is_not_there(folder, voices, capsys):
    assert verify(folder, voices, ["s0/00.wav", "s0/99.wav"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("eval verify: error: ")
    assert "there is no such file" in error


def test_the_most_alike_comes_first(folder, voices, tmp_path, capsys):
    checkpoint = str(folder / "step-00000042.pt")
    asked = [str(voices.folder / "s2/01.flac"), str(voices.folder / "s0/02.flac")]
    words = ["identify", checkpoint, str(voices.folder), *asked, "--top", "3", "--device", "cpu"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 speakers, 12 recordings")
    assert lines[1].startswith(asked[0])
    found = [line.split() for line in lines[2:5]]
    encoder = SpeakerEncoder.load(checkpoint, device="cpu")
    units = encoder.embed([voices.folder / name for name in voices.lengths])
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    means = units.reshape(4, 3, -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scores = means @ units[list(voices.lengths).index("s2/01.flac")]
    order = np.argsort(-scores)[:3]
    assert [line[1] for line in found] == [f"s{row}" for row in order]
    np.testing.assert_allclose([float(line[0]) for line in found], scores[order], atol=1e-3)
    assert len(lines) == 1 + 2 * 4


def test_a_recording_that_is_among_the_speakers_own_is_named(folder, voices, capsys):
    checkpoint, asked = str(folder / "step-00000042.pt"), str(voices.folder / "s2/01.flac")
    assert main(["identify", checkpoint, str(voices.folder), asked, "--device", "cpu"]) == 0
    assert f"{asked} (one of s2's own recordings" in capsys.readouterr().out


def test_a_folder_without_speakers(folder, tmp_path, voices, capsys):
    recording = str(voices.folder / "s0/00.wav")
    for place, said in ((tmp_path, "no audio files below"), (tmp_path / "nowhere", "no such folder")):
        assert main(["identify", str(folder / "step-00000042.pt"), str(place), recording]) == 1
        assert said in capsys.readouterr().err
