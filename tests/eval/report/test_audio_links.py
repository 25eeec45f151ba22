from __future__ import annotations

import numpy as np

from eval.evaluate import detection_metrics
from eval.report.audio_links import SECONDS, with_audio
from eval.report.evaluation import Evaluation
from eval.report.worst import worst_trials
from eval.trials import read_trials
from eval.utterances import open_utterances
from shard_tools import audio


def test_the_worst_errors_lie_beside_the_report(voices, tmp_path):
    trials = read_trials(str(voices.trials))
    scores = np.random.default_rng(0).standard_normal(len(trials))
    metrics = detection_metrics(scores, trials.label, [0.05])
    made = Evaluation(scores, trials, metrics, {})
    source = open_utterances(str(voices.folder))
    linked = with_audio(str(tmp_path), made, source)
    wrong = [worst_trials(scores, trials, metrics["eer_threshold"], label) for label in (0, 1)]
    sides = np.concatenate([side[rows] for rows in wrong for side in (trials.left, trials.right)])
    assert set(linked.audio) == {trials.names[row] for row in sides}
    for name, link in linked.audio.items():
        samples = audio.decode((tmp_path / link).read_bytes(), link)
        np.testing.assert_array_equal(samples, source.load(name)[: SECONDS * 16000])
    assert len(set(linked.audio.values())) == len(linked.audio)
