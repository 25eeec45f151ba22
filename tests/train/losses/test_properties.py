"""Losses where they could go wrong: the ends of the cosine, very many speakers, the scale's sign."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models.options import ModelError
from train.losses import build_loss
from train.losses.base import SpeakerLoss
from train.losses.classes import Classes
from train.losses.sharded import hardest
from train.progress import Progress


def build(
    name: str, *, size: int = 6, speakers: int = 5, utterances: int = 1, **options: object
) -> SpeakerLoss:
    return build_loss(
        name, options, embedding_size=size, speakers=speakers, utterances_per_speaker=utterances
    )


@pytest.mark.parametrize("easy_margin", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_aamsoftmax_gradient_is_finite_at_the_ends_of_the_cosine(sign: float, easy_margin: bool) -> None:
    torch.manual_seed(0)
    loss = build("aamsoftmax", easy_margin=easy_margin)
    labels = torch.arange(5)
    axes = torch.eye(5, 6)
    with torch.no_grad():
        loss.weight.copy_(axes)
    embeddings = (sign * axes).requires_grad_()
    assert torch.equal((F.normalize(embeddings) * axes).sum(1).abs(), torch.ones(5))
    loss(embeddings, labels).loss.backward()
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(loss.weight.grad).all()
    assert loss.weight.grad.abs().max() > 0


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), margin=st.floats(0, 1.5), easy_margin=st.booleans())
def test_aamsoftmax_is_a_margin_on_the_angle(seed: int, margin: float, easy_margin: bool) -> None:
    torch.manual_seed(seed)
    loss = build("aamsoftmax", margin=margin, scale=1.0, easy_margin=easy_margin)
    angles = torch.linspace(0, math.pi, 201, dtype=torch.float64)
    found = loss._with_margin(angles.cos())
    shifted = angles < (math.pi / 2 if easy_margin else math.pi - margin)
    clear = (angles - (math.pi / 2 if easy_margin else math.pi - margin)).abs() > 1e-6
    expected = torch.where(shifted, (angles + margin).cos(), angles.cos())
    if not easy_margin:
        expected = torch.where(shifted, expected, angles.cos() - margin * math.sin(margin))
        assert (found.diff() < 1e-9).all()
    torch.testing.assert_close(found[clear], expected[clear], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "name", ["softmax", "amsoftmax", "aamsoftmax", "aamsoftmax_subcentre", "sphereface2"]
)
def test_classification_uses_all_rows_alike(name: str) -> None:
    torch.manual_seed(0)
    loss = build(name, utterances=2)
    embeddings, labels = torch.randn(8, 6), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    order = torch.randperm(8)
    torch.testing.assert_close(loss(embeddings[order], labels[order]), loss(embeddings, labels))
    halves = [loss(embeddings[rows], labels[rows]) for rows in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close((halves[0].loss + halves[1].loss) / 2, loss(embeddings, labels).loss)


def test_no_margin_is_no_loss_of_its_own() -> None:
    torch.manual_seed(0)
    angular, additive = build("aamsoftmax", margin=0.0), build("amsoftmax", margin=0.0)
    additive.load_state_dict(angular.state_dict())
    embeddings, labels = torch.randn(7, 6), torch.randint(5, (7,))
    torch.testing.assert_close(angular(embeddings, labels), additive(embeddings, labels))


def test_accuracy_is_a_share_of_the_rows() -> None:
    loss = build("softmax", size=3, speakers=3)
    with torch.no_grad():
        loss.fc.weight.copy_(torch.eye(3))
        loss.fc.bias.zero_()
    output = loss(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 1]))
    assert output.accuracy.item() == 0.75
    assert output.accuracy.shape == output.loss.shape == ()


@pytest.mark.parametrize("name", ["amsoftmax", "aamsoftmax"])
def test_margins_keep_no_table_of_all_speakers(name: str) -> None:
    speakers = 20000
    loss = build(name, speakers=speakers)
    embeddings = torch.randn(4, 6, requires_grad=True)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() == 4 * speakers:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = loss(embeddings, torch.tensor([0, 1, 2, 19999]))
    assert len(kept) == 1  # the log-probabilities of the cross-entropy
    output.loss.backward()


def test_angleproto_by_hand() -> None:
    torch.manual_seed(0)
    loss = build("angleproto", utterances=3, init_w=7.0, init_b=0.5)
    grouped = torch.randn(4, 3, 6)
    logits = torch.empty(4, 4)
    for i in range(4):
        for j in range(4):
            prototype = (grouped[j, 1] + grouped[j, 2]) / 2
            logits[i, j] = 7.0 * F.cosine_similarity(grouped[i, 0], prototype, dim=0) + 0.5
    output = loss(grouped.reshape(12, 6), torch.arange(4).repeat_interleave(3))
    torch.testing.assert_close(output.loss.detach(), F.cross_entropy(logits, torch.arange(4)))
    assert output.accuracy.item() == (logits.argmax(1) == torch.arange(4)).float().mean().item()


def test_angleproto_scale_stays_positive_and_can_come_back() -> None:
    torch.manual_seed(0)
    loss = build("angleproto", utterances=2)
    with torch.no_grad():
        loss.w.fill_(-0.5)
    queries = torch.randn(4, 1, 6)
    rows = (queries + 0.1 * torch.randn(4, 2, 6)).reshape(8, 6)
    output = loss(rows, torch.arange(4).repeat_interleave(2))
    assert output.loss.item() == pytest.approx(math.log(4), abs=1e-4)  # a scale of nearly zero
    output.loss.backward()
    assert loss.w.grad < 0  # the step of a descent is upwards


def test_angleproto_needs_pairs_and_whole_groups() -> None:
    with pytest.raises(ModelError, match=r"batch\.utterances_per_speaker is 1"):
        build("angleproto", utterances=1)
    with pytest.raises(ModelError, match=r"7 embeddings is not made of groups of 2"):
        build("angleproto", utterances=2)(torch.randn(7, 6), torch.zeros(7, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arcface", {}, "unknown loss 'arcface'; there are: aamsoftmax, aamsoftmax_subcentre, "),
        ("softmax", {"margin": 0.2}, "loss \"softmax\" has no option 'margin'; its options: none at all"),
        (
            "aamsoftmax",
            {"m": 0.2},
            "loss \"aamsoftmax\" has no option 'm'; its options: margin, scale, easy_margin",
        ),
        (
            "aamsoftmax",
            {"margin": -0.1},
            "option 'margin' is -0.1, it must be a number (float) from 0 to 1.5708",
        ),
        (
            "aamsoftmax",
            {"easy_margin": "no"},
            "option 'easy_margin' is 'no' (str), it must be true or false (bool)",
        ),
        ("amsoftmax", {"scale": 0}, "option 'scale' is 0.0, it must be a number (float) from 0.001 to 1000"),
        ("angleproto", {"init_w": True}, "option 'init_w' is True (bool), it must be a number (float)"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError) as raised:
        build(name, utterances=2, **options)
    assert message in str(raised.value)


def test_initial_weights_follow_the_seed() -> None:
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(build("aamsoftmax").weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_prototypical_is_minus_the_squared_distance_to_the_mean_of_the_others() -> None:
    torch.manual_seed(0)
    loss, embeddings = build("prototypical", utterances=3), torch.randn(12, 6)
    groups = embeddings.view(4, 3, 6)
    logits = torch.empty(4, 4)
    for query in range(4):
        for speaker in range(4):
            prototype = (groups[speaker, 1] + groups[speaker, 2]) / 2
            logits[query, speaker] = -((groups[query, 0] - prototype) ** 2).sum()
    found = loss(embeddings, torch.arange(4).repeat_interleave(3))
    torch.testing.assert_close(found.loss, F.cross_entropy(logits, torch.arange(4)))
    assert found.accuracy == (logits.argmax(dim=1) == torch.arange(4)).float().mean()


def triplet_by_hand(embeddings: torch.Tensor, negatives: list[int], margin: float) -> torch.Tensor:
    groups = F.normalize(embeddings.view(-1, 2, embeddings.shape[1]), dim=2)
    losses = []
    for row, negative in enumerate(negatives):
        near = ((groups[row, 0] - groups[row, 1]) ** 2).sum()
        far = ((groups[row, 0] - groups[negative, 1]) ** 2).sum()
        losses.append((near - far + margin).clamp(min=0))
    return torch.stack(losses).mean()


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), rank=st.integers(-1, 5), probability=st.sampled_from([0.0, 0.5, 1.0]))
def test_triplets_are_mined_as_was_said(seed: int, rank: int, probability: float) -> None:
    torch.manual_seed(seed)
    speakers, margin = 6, 0.3
    loss = build("triplet", utterances=2, margin=margin, hard_rank=rank, hard_prob=probability)
    loss.begin(Progress(seed % 50, 0, 0.0, 100, seed=seed))
    embeddings = torch.randn(2 * speakers, 6)
    groups = F.normalize(embeddings.view(speakers, 2, 6), dim=2)
    distances = ((groups[:, None, 0] - groups[None, :, 1]) ** 2).sum(dim=2)
    negatives = loss._mined(distances, torch.arange(speakers)).tolist()
    for row, negative in enumerate(negatives):
        assert negative != row
        order = [one for one in distances[row].argsort().tolist() if one != row]
        fitting = [
            one for one in order if distances[row, row] < distances[row, one] < distances[row, row] + margin
        ]
        if rank < 0 and fitting:
            assert negative in fitting
        elif rank >= 0 and probability == 1.0:
            assert negative in order[: rank + 1]
    found = loss(embeddings, torch.arange(speakers).repeat_interleave(2))
    torch.testing.assert_close(found.loss, triplet_by_hand(embeddings, negatives, margin))


@pytest.mark.slow
def test_any_negative_is_drawn_evenly_and_another_at_another_step() -> None:
    loss = build("triplet", utterances=2, hard_prob=0.0)
    distances, own = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    counts = torch.zeros(8, 8)
    for step in range(700):
        loss.begin(Progress(step, 0, 0.0, 1000))
        counts[own, loss._mined(distances, own)] += 1
    assert torch.equal(counts.diagonal(), torch.zeros(8))
    off = counts[~torch.eye(8, dtype=torch.bool)]
    assert (off - 100).abs().max() < 45
    assert torch.equal(loss._mined(distances, own), loss._mined(distances, own))


def test_one_speaker_alone_has_no_negative_and_no_gradient() -> None:
    loss, embeddings = build("triplet", utterances=2, margin=0.0), torch.randn(2, 6, requires_grad=True)
    found = loss(embeddings, torch.tensor([0, 0]))
    found.loss.backward()
    assert float(found.loss) == 0
    assert torch.equal(embeddings.grad, torch.zeros(2, 6))


@pytest.mark.parametrize(
    ("name", "utterances", "needed"),
    [("ge2e", 1, "at least 2"), ("prototypical", 1, "at least 2"), ("softmaxproto", 1, "at least 2"),
     ("triplet", 1, "exactly 2"), ("triplet", 3, "exactly 2")],
)  # fmt: skip
def test_losses_that_compare_say_how_many_they_need(name: str, utterances: int, needed: str) -> None:
    with pytest.raises(ModelError, match=f'loss "{name}" .* needs {needed}: batch.utterances_per_speaker is'):
        build(name, utterances=utterances)


def test_softmax_and_prototypical_are_added() -> None:
    torch.manual_seed(0)
    both = build("softmaxproto", utterances=2)
    embeddings, labels = torch.randn(8, 6), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    alone = both.softmax(embeddings, labels).loss + both.prototypical(embeddings, labels).loss
    torch.testing.assert_close(both(embeddings, labels).loss, alone)


@pytest.mark.parametrize("growth", ["exponential", "linear"])
@pytest.mark.parametrize("name", ["aamsoftmax", "aamsoftmax_subcentre", "amsoftmax", "sphereface2"])
def test_a_margin_grows_between_two_epochs_as_wespeakers(name: str, growth: str) -> None:
    options = {"margin": 0.2, "margin_begins": 20.0, "margin_ends": 40.0, "margin_growth": growth}
    loss, still = build(name, **options), build(name, margin=0.2)
    assert (still.margin, still.figures()) == (0.2, {})
    for epochs in (0.0, 20.0, 25.0, 39.9, 40.0, 70.0):
        loss.begin(Progress(0, int(epochs), epochs, 100))
        part = min(1.0, max(0.0, (epochs - 20) / 20))
        way = 1 - math.exp(part * math.log(1e-3 / (1 + 1e-6))) if growth == "exponential" else part
        wanted = 0.2 if epochs >= 40 else 0.2 * way
        assert loss.margin == pytest.approx(wanted, abs=1e-6)
        assert loss.figures() == {"margin": loss.margin}
    still.load_state_dict(loss.state_dict())
    embeddings, labels = torch.randn(7, 6), torch.randint(5, (7,))
    torch.testing.assert_close(loss(embeddings, labels), still(embeddings, labels))
    with pytest.raises(ModelError, match="margin_ends 10 is not after margin_begins 20"):
        build(name, **(options | {"margin_ends": 10.0}))


def test_the_penalty_grows_with_the_margin() -> None:
    torch.manual_seed(0)
    growing = build("aamsoftmax_subcentre", penalty=0.1, margin_ends=10.0, margin_growth="linear")
    embeddings, labels = torch.randn(7, 6), torch.randint(5, (7,))
    for epochs, penalty in ((0.0, 0.0), (5.0, 0.05), (10.0, 0.1)):
        growing.begin(Progress(0, int(epochs), epochs, 100))
        scores = growing.scores(embeddings)
        right = torch.arange(7), labels
        wrong = scores.scatter(1, labels[:, None], -torch.inf).flatten()
        logits = growing.logits(scores.clone(), right).scatter(1, labels[:, None], -torch.inf).flatten()
        finite = wrong.isfinite()
        turned = (wrong[finite].acos() - penalty).cos() * 32.0  # all: there are fewer than 5 wrong speakers
        torch.testing.assert_close(logits[finite], turned, rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), speakers=st.integers(2, 9), count=st.integers(1, 8))
def test_the_hardest_are_the_highest_wrong_ones(seed: int, speakers: int, count: int) -> None:
    torch.manual_seed(seed)
    scores, labels = torch.randn(4, speakers), torch.randint(speakers, (4,))
    count = min(count, speakers - 1)
    rows, columns = hardest(scores, (torch.arange(4), labels), count, False)
    for row in range(4):
        order = [one for one in scores[row].argsort(descending=True).tolist() if one != labels[row]]
        assert sorted(columns[rows == row].tolist()) == sorted(order[:count])


def test_one_centre_and_no_penalty_are_aamsoftmax_below_the_turn() -> None:
    torch.manual_seed(0)
    one, plain = (
        build("aamsoftmax_subcentre", centres=1, top_k=0),
        build("aamsoftmax", margin=0.2, scale=32.0),
    )
    plain.load_state_dict(one.state_dict())
    embeddings, labels = torch.randn(7, 6), torch.randint(5, (7,))
    torch.testing.assert_close(one(embeddings, labels), plain(embeddings, labels))


@pytest.mark.parametrize("margin_type", ["A", "C"])
def test_sphereface2_is_finite_at_the_ends_of_the_cosine(margin_type: str) -> None:
    loss = build("sphereface2", margin_type=margin_type)
    with torch.no_grad():
        loss.weight.copy_(torch.eye(5, 6))
    for sign in (1.0, -1.0):
        embeddings = (sign * torch.eye(5, 6)).requires_grad_()
        loss(embeddings, torch.arange(5)).loss.backward()
        assert torch.isfinite(embeddings.grad).all()
        assert torch.isfinite(loss.weight.grad).all()


HEADS = ("softmax", "amsoftmax", "aamsoftmax", "aamsoftmax_subcentre")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("speakers", [3, 10_001])
def test_a_share_of_the_head_begins_as_the_whole_ones_rows(name: str, speakers: int) -> None:
    torch.manual_seed(1)
    whole, after = build(name, speakers=speakers).state_dict(), torch.rand(1)
    for rank in range(3):
        torch.manual_seed(1)
        kind = type(build(name))
        torch.manual_seed(1)
        classes = Classes(speakers, rank, 3)
        share = kind(6, speakers, 1, classes)
        assert torch.equal(torch.rand(1), after)
        for key, rows in share.state_dict().items():
            first, last = (len(whole[key]) // speakers * bound for bound in classes.bounds(rank))
            assert torch.equal(rows, whole[key][first:last])


def test_heads_begin_as_torch_would_have_them() -> None:
    torch.manual_seed(2)
    head, normal, uniform = (build(name, speakers=9000) for name in ("softmax", "amsoftmax", HEADS[3]))
    torch.manual_seed(2)
    linear = torch.nn.Linear(6, 9000)
    assert torch.equal(linear.weight, head.fc.weight)
    assert torch.equal(linear.bias, head.fc.bias)
    assert torch.equal(torch.nn.init.xavier_normal_(torch.empty(9000, 6)), normal.weight)
    assert torch.equal(torch.nn.init.xavier_uniform_(torch.empty(27000, 6)), uniform.weight)


@given(total=st.integers(1, 1000), world=st.integers(1, 64))
def test_every_class_is_with_one_process(total: int, world: int) -> None:
    if total < world:
        with pytest.raises(ModelError, match=f"{total} speakers cannot be shared by {world} processes"):
            Classes(total, 0, world)
        return
    shares = [Classes(total, rank, world) for rank in range(world)]
    assert [share.first for share in shares] == [0, *(share.first + share.count for share in shares[:-1])]
    assert sum(share.count for share in shares) == total
    assert max(share.count for share in shares) - min(share.count for share in shares) <= 1


def test_alone_a_process_has_the_whole_head() -> None:
    sizes = {"embedding_size": 6, "speakers": 5, "utterances_per_speaker": 1}
    assert build_loss("aamsoftmax", {}, **sizes, sharded=True).sharded() == {}


def test_a_loss_without_a_head_is_not_sharded() -> None:
    for name in ("ge2e", "softmaxproto", "sphereface2"):
        with pytest.raises(
            ModelError, match=f'loss.sharded is true, and loss "{name}" has no head .* softmax$'
        ):
            build_loss(name, {}, embedding_size=6, speakers=5, utterances_per_speaker=2, sharded=True)
