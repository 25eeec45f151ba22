"""Cross-entropy over classes that lie with several processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from train.losses.base import LossOutput
from train.losses.gather import gather_rows


def gather_batch(embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, slice]:
    """Rows (n, D) and labels (n,) of this rank → those of all ranks, and which of them are this rank's.

    Every rank must call it, with the same n. The gradients that come back for the rows are of the mean over
    all ranks' rows; they go on multiplied by the number of ranks, by which DistributedDataParallel divides.
    """
    rows, first = gather_rows(embeddings)
    targets, _ = gather_rows(labels)
    world = dist.get_world_size()
    return _GradientTimes.apply(rows, world), targets, slice(first, first + len(labels))


def classify_sharded(
    logits: torch.Tensor,
    right: tuple[torch.Tensor, torch.Tensor],
    targets: torch.Tensor,
    first: int,
    own: slice,
) -> LossOutput:
    """What `classify` says of this rank's rows, from logits (all ranks' rows, this rank's classes).

    right: rows and columns of the right classes that are this rank's; targets: the rows' labels, of all
    classes; first: this rank's first class; own: this rank's rows. The logits' gradients are of the mean over
    all ranks' rows, on every rank for its own classes.
    """
    losses = _CrossEntropy.apply(logits, *right)
    return LossOutput(losses[own].mean(), (_highest(logits.detach(), first) == targets)[own].float().mean())


@torch.no_grad()
def hardest(
    scores: torch.Tensor, right: tuple[torch.Tensor, torch.Tensor], count: int, shared: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns, among this rank's, of the `count` highest scores of each row over all ranks' classes.

    scores (B, own classes); the entries at `right` do not count. shared: whether other ranks have classes.
    """
    rows = scores.shape[0]
    most = min(count + 1, scores.shape[1])  # one more, as one of them may be a right one
    values, columns = scores.topk(most, dim=1)
    wanted = columns.new_full((rows,), -1)
    wanted[right[0]] = right[1]
    values = values.masked_fill(columns == wanted[:, None], -torch.inf)
    begin, everyones = 0, values
    if shared:
        padded = values.new_full((rows, count + 1), -torch.inf)
        padded[:, :most] = values
        stacked, begin = gather_rows(padded.T.contiguous())  # (ranks * (count + 1), B)
        everyones = stacked.T
    chosen = everyones.topk(count, dim=1).indices - begin
    row, place = ((chosen >= 0) & (chosen < most)).nonzero(as_tuple=True)
    return row, columns[row, chosen[row, place]]


def _highest(logits: torch.Tensor, first: int) -> torch.Tensor:
    """(B, own classes) → (B,): the class, of all ranks', with the highest logit; of equal ones the first."""
    values, columns = logits.max(dim=1)
    highest = values.clone()
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    classes = torch.where(values == highest, columns + first, torch.iinfo(columns.dtype).max)
    dist.all_reduce(classes, op=dist.ReduceOp.MIN)
    return classes


class _GradientTimes(torch.autograd.Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, factor: int) -> torch.Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] * ctx.factor, None


class _CrossEntropy(torch.autograd.Function):
    """Logits (B, own classes) → losses (B,) over all ranks' classes, the same on every rank.

    Each rank makes something of some of the losses; backward takes the mean over ranks of all that they make,
    and gives each rank the gradients of its own logits.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        highest = logits.amax(dim=1)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        shares = (logits - highest[:, None]).exp_()
        sums = torch.stack([shares.sum(dim=1), torch.zeros_like(highest)])
        sums[1, rows] = logits[rows, columns]
        dist.all_reduce(sums)
        ctx.save_for_backward(shares.div_(sums[0, :, None]), rows, columns)
        return sums[0].log() + highest - sums[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        shares, rows, columns = ctx.saved_tensors
        weights = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(weights)
        weights = weights / dist.get_world_size()
        gradient = shares * weights[:, None]
        gradient[rows, columns] -= weights[rows]
        return gradient, None, None
