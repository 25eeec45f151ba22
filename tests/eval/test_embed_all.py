"""All ranks together embed as one, to the bit; what was killed goes on; mistakes reach all."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
import torch.distributed as dist
from eval_fakes import Ears
from ranks import start_ranks

from eval.embed_all import embed_utterances
from eval.evaluate import evaluate_network
from eval.kept import Kept
from eval.protocol import Protocol
from eval.ranks import from_first, gather_rows, together
from eval.trials import read_trials
from eval.utterances import open_utterances
from shard_tools import audio
from shard_tools.errors import UserError

CPU = torch.device("cpu")
CROPS = Protocol.of_crops(2, 30)
OPTIONS = {"device": CPU, "batch_utterances": 2, "threads": 2}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("eval.embed_all.PART_UTTERANCES", 5)


def every_embedding(ears, voices, protocol=CROPS, **more):
    source = open_utterances(str(voices.folder))
    return embed_utterances(ears, source, list(voices.lengths), protocol=protocol, **OPTIONS, **more)


def kept_in(folder, said, protocol=CROPS, made_by="checkpoint"):
    return Kept(str(folder), made_by, protocol, said.append)


def test_what_was_made_before_a_kill_is_not_made_again(voices, ears, tmp_path):
    said: list[str] = []
    whole = every_embedding(ears, voices).vectors

    class Killed(Ears):
        def forward(self, sound):
            if len(self.calls) == 5:  # in the second part: a batch of two utterances is a call
                raise KeyboardInterrupt
            return super().forward(sound)

    with pytest.raises(KeyboardInterrupt):
        every_embedding(Killed(), voices, kept=kept_in(tmp_path, said))
    ears.calls.clear()
    again = every_embedding(ears, voices, kept=kept_in(tmp_path, said), say=said.append)
    assert sum(count for count, _ in ears.calls) == 2 * 7
    np.testing.assert_array_equal(again.vectors, whole)
    assert said == ["5 of 12 embeddings were made before"]
    ears.calls.clear()
    third = every_embedding(ears, voices, kept=kept_in(tmp_path, said))
    assert ears.calls == []
    np.testing.assert_array_equal(third.vectors, whole)
    np.testing.assert_array_equal(third.seconds, np.float32([n / 16000 for n in voices.lengths.values()]))


@pytest.mark.parametrize("other", [{"made_by": "another"}, {"protocol": Protocol.of_crops(2, 31)}])
def test_another_checkpoint_or_protocol_takes_nothing_of_it(voices, ears, tmp_path, other):
    every_embedding(ears, voices, kept=kept_in(tmp_path, []))
    ears.calls.clear()
    protocol = other.get("protocol", CROPS)
    every_embedding(ears, voices, protocol, kept=kept_in(tmp_path, [], **({"protocol": CROPS} | other)))
    assert sum(count for count, _ in ears.calls) == 24


def test_audio_that_has_changed_is_embedded_again(voices, ears, tmp_path):
    folder = tmp_path / "wav"
    shutil.copytree(voices.folder, folder)
    source, names = open_utterances(str(folder)), list(voices.lengths)

    def embedded():
        return embed_utterances(
            ears, source, names, protocol=CROPS, kept=kept_in(tmp_path / "kept", []), **OPTIONS
        )

    before = embedded()
    samples = np.random.default_rng(3).integers(-9999, 9999, 9000).astype(np.int16)
    (folder / names[3]).write_bytes(audio.encode(samples, "wav"))
    ears.calls.clear()
    after = embedded()
    assert sum(count for count, _ in ears.calls) == 2
    different = [row for row in range(12) if not np.array_equal(before.vectors[row], after.vectors[row])]
    assert different == [3]
    # One with the size and the time of another, as unpacked archives and rsync make them.
    path, of_before = folder / names[3], (folder / names[3]).stat()
    path.write_bytes(audio.encode(-samples, "wav"))
    os.utime(path, ns=(of_before.st_atime_ns, of_before.st_mtime_ns))
    ears.calls.clear()
    embedded()
    assert sum(count for count, _ in ears.calls) == 2


def test_a_damaged_part_is_told_of_and_made_again(voices, ears, tmp_path):
    said: list[str] = []
    whole = every_embedding(ears, voices, kept=kept_in(tmp_path, said)).vectors
    part = sorted(tmp_path.glob("*/part-*.npz"))[1]
    part.write_bytes(part.read_bytes()[:200])
    again = every_embedding(ears, voices, kept=kept_in(tmp_path, said))
    np.testing.assert_array_equal(again.vectors, whole)
    assert len(said) == 1
    assert part.name in said[0]
    every_embedding(ears, voices, kept=kept_in(tmp_path, said))
    assert len(said) == 1


def test_silent_and_tiny_utterances_are_told_of(ears, tmp_path):
    noise = np.random.default_rng(0).integers(-99, 99, 8000).astype(np.int16)
    for name, sound in {"a": noise, "b": np.zeros(4000, np.int16), "c": noise[:100]}.items():
        (tmp_path / f"{name}.wav").write_bytes(audio.encode(sound, "wav"))
    said: list[str] = []
    names = ["a.wav", "b.wav", "c.wav"]
    embed_utterances(ears, open_utterances(str(tmp_path)), names, say=said.append, **OPTIONS)
    assert said == [
        "1 of 3 utterances are nothing but silence: no speaker can be known by them: b.wav",
        "1 of 3 utterances are shorter than 0.1 s: they were repeated to be so long: c.wav",
    ]


def _rank(rank, world, folder, trials, out):
    """All that needs several processes, as starting them is slow."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=world)
    import eval.embed_all
    import eval.ranks

    eval.embed_all.PART_UTTERANCES = 5
    eval.ranks._ROWS_BYTES = 17  # two rows of two float32: several collectives
    places = [np.array([0, 2, 4]), np.array([1, 3])]
    rows = gather_rows(np.full((3 - rank, 2), rank, np.float32), places, 5, CPU)
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 0, 1, 0])
    sent = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.testing.assert_array_equal(from_first(sent if rank == 0 else None, CPU), sent)
    eval.ranks._ROWS_BYTES = 32 << 20

    network, source, list_ = Ears().eval(), open_utterances(folder), read_trials(trials)
    one = dict(OPTIONS, protocol=CROPS)
    result = evaluate_network(network, source, list_, **one)
    calls = sum(count for count, _ in network.calls)
    kept = Kept(f"{out}/kept", "checkpoint", CROPS, print)
    embed_utterances(network, source, list_.names[:4], kept=kept, **one)
    network.calls.clear()
    again = embed_utterances(network, source, list_.names, kept=kept, **one)
    taken = sum(count for count, _ in network.calls)

    class Broken(type(source)):
        def load(self, name):
            if rank == 1:
                raise UserError(f"{name} is broken on rank {rank}")
            return super().load(name)

    def mistake():
        with pytest.raises(UserError) as caught:
            embed_utterances(network, Broken(folder), list_.names, **one)
        return str(caught.value)

    said = mistake()
    with pytest.raises(UserError, match=r"do not see the same utterances \(3, 4 of them\)"):
        embed_utterances(network, source, list_.names[: 3 + rank], **one)
    assert together(lambda: rank) == rank  # they are still in step
    np.savez(
        f"{out}/{rank}.npz", scores=result.scores, calls=calls, again=again.vectors, taken=taken, said=said
    )
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_the_work_and_agree_to_the_bit(voices, ears, tmp_path):
    source, trials = open_utterances(str(voices.folder)), read_trials(str(voices.trials))
    single = evaluate_network(ears, source, trials, protocol=CROPS, **OPTIONS)
    start_ranks(_rank, 2, 2, str(voices.folder), str(voices.trials), str(tmp_path))
    found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2)]
    # Parts of 5, 5 and 2 utterances in batches of two: 3, 3 and 1 batches.
    assert [each["calls"] for each in found] == [2 * (3 + 3 + 2), 2 * (2 + 2)]
    assert sum(each["taken"] for each in found) == 2 * 8
    for each in found:
        np.testing.assert_array_equal(each["scores"], single.scores)
        np.testing.assert_allclose(each["again"], single.embeddings.vectors, rtol=1e-5, atol=1e-6)
        assert str(each["said"]).endswith("is broken on rank 1")
    np.testing.assert_array_equal(found[0]["again"], found[1]["again"])
    assert str(found[0]["said"]) == str(found[1]["said"])
