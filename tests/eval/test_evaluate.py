from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from eval_fakes import Ears

from eval.evaluate import evaluate_network, gather_rows
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


def _rank(rank, world, folder, trials, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=world)
    rows = gather_rows(np.full((3 - rank, 2), rank, np.float32), 5, CPU)
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 0, 1, 0])
    network = Ears().eval()
    result = evaluate_network(network, open_utterances(folder), read_trials(trials), device=CPU, crops=2)
    np.savez(f"{out}/{rank}.npz", scores=result.scores, calls=sum(count for count, _ in network.calls))
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_the_work_and_agree(voices, ears, tmp_path):
    single = evaluate_network(
        ears, open_utterances(str(voices.folder)), read_trials(str(voices.trials)), device=CPU, crops=2
    )
    torch.multiprocessing.spawn(_rank, (2, str(voices.folder), str(voices.trials), str(tmp_path)), nprocs=2)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as found:
            assert found["calls"] == 12  # 2 crops of half of the utterances
            np.testing.assert_allclose(found["scores"], single.scores, atol=1e-6)


def test_gathering_in_several_collectives(monkeypatch, tmp_path):
    monkeypatch.setattr("eval.evaluate._GATHER_ROWS_BYTES", 17)  # two rows of two float32
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        rows = np.arange(14, dtype=np.float32).reshape(7, 2)
        np.testing.assert_array_equal(gather_rows(rows, 7, CPU), rows)
    finally:
        dist.destroy_process_group()
