from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from eval.evaluate import evaluate_network
from eval.trials import read_trials
from eval.utterances import open_utterances
from shard_tools.errors import UserError

CPU = torch.device("cpu")


def test_metrics_say_what_was_measured_and_how(voices, ears):
    trials = read_trials(str(voices.trials))
    result = evaluate_network(ears, open_utterances(str(voices.folder)), trials, device=CPU)
    metrics = result.metrics
    assert result.scores.shape == (66,)
    assert metrics["eer"] < 10  # per cent; the voices differ plainly
    assert metrics["eer_threshold"] < 1
    assert set(metrics["min_dcf"]) == set(metrics["min_dcf_threshold"]) == {"0.05", "0.01"}
    assert (metrics["trials"], metrics["targets"], metrics["nontargets"]) == (66, 12, 54)
    assert metrics["utterances"] == 12
    assert (metrics["trial_list"], metrics["trial_list_sha256"]) == ("trials.txt", trials.digest)
    assert (metrics["scoring"], metrics["crops"], metrics["crop_feature_frames"]) == ("cosine", 0, None)
    assert metrics["seconds"] > 0
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_options_reach_embeddings_and_scores(voices, ears):
    trials, source = read_trials(str(voices.trials)), open_utterances(str(voices.folder))
    result = evaluate_network(
        ears,
        source,
        trials,
        device=CPU,
        crops=3,
        crop_feature_frames=30,
        scoring="euclidean",
        p_targets=[0.2],
    )
    assert {frames for _, frames in ears.calls} == {5040}
    assert (result.scores <= 0).all()
    assert list(result.metrics["min_dcf"]) == ["0.2"]
    assert (result.metrics["crops"], result.metrics["crop_feature_frames"]) == (3, 30)


def test_every_module_gets_its_own_mode_back(voices, ears):
    trials, source = read_trials(str(voices.trials)), open_utterances(str(voices.folder))
    expected = evaluate_network(ears, source, trials, device=CPU).scores
    ears.train()
    ears.norm.eval()  # frozen by its user
    mean = ears.norm.running_mean.clone()
    result = evaluate_network(ears, source, trials, device=CPU)
    np.testing.assert_array_equal(result.scores, expected)  # no dropout, no batch statistics
    assert (ears.training, ears.dropout.training, ears.norm.training) == (True, True, False)
    torch.testing.assert_close(ears.norm.running_mean, mean)
    ears.filters.data[0, 0] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        evaluate_network(ears, source, trials, device=CPU)
    assert (ears.training, ears.dropout.training, ears.norm.training) == (True, True, False)


def test_missing_utterances_stop_it_before_any_work(voices, ears, tmp_path):
    path = tmp_path / "more.txt"
    path.write_text(voices.trials.read_text() + "0 s0/00.wav s9/00.wav\n")
    with pytest.raises(UserError, match=r"1 of the 13 utterances in more\.txt are not there: s9/00\.wav"):
        evaluate_network(ears, open_utterances(str(voices.folder)), read_trials(str(path)), device=CPU)
    assert ears.calls == []


def test_scores_that_are_no_numbers_are_refused(voices, ears, monkeypatch):
    class Broken:
        def score(self, embeddings, trials, *, progress=False):
            return np.where(np.arange(len(trials)) == 3, np.nan, 1.0)

    monkeypatch.setattr("eval.evaluate.build_scorer", lambda name, options=None: Broken())
    with pytest.raises(UserError, match=r"scores of 1 of 66 trials are NaN .* s0/00\.wav and s1/01\.flac"):
        evaluate_network(
            ears, open_utterances(str(voices.folder)), read_trials(str(voices.trials)), device=CPU
        )
