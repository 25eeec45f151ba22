"""What learns: the objective, its optimiser and what goes with them, and one step of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train.backward import Backward
from train.buffers import BufferMean
from train.channels_last import to_channels_last
from train.config.sections import OptimConfig, TrainConfig
from train.ema import Averaged
from train.life.distributed import Process
from train.life.shards import clip_gradients, grad_scaler, leave_to_ranks, whole_state
from train.norm import GhostBatchNorm, RunningStatistics, SharedBatchNorm, convert
from train.objectives import Objective, Outcome
from train.objectives.base import rehearse
from train.optim import Optimizer, build_optimizer
from train.optim.groups import freeze, parameter_groups, set_rates
from train.progress import Progress
from train.uncompiled import default_ddp_mode, leave_compiler_out
from train.weight_gradients import by_products, products_are_quicker


class Learner:
    """Learns from one global batch after the other.

    objective: on the process's device. rows: of a batch, this process's. Everything that a checkpoint has
    to hold is a part of it: `parts` and the state of `optimizer`, `scaler` and `averaged`.
    """

    def __init__(
        self, objective: Objective, rows: int, process: Process, train: TrainConfig, optim: OptimConfig
    ) -> None:
        if not train.compile:
            leave_compiler_out()
        self.objective = objective
        self._process = process
        self._train = train
        self._optim = optim
        self._groups = self._normalise(rows)
        freeze(objective, optim.freeze)
        objective.frozen = tuple(optim.freeze)
        groups = parameter_groups(objective.named_parameters(), optim.rates, no_decay=optim.no_decay)
        self.made_by: Optimizer = build_optimizer(optim.name, optim.options)
        self.optimizer = self.made_by.make(groups, lr=optim.lr, weight_decay=optim.weight_decay)
        self.scaler = grad_scaler(objective, process.device.type, enabled=train.precision == "fp16")
        if train.channels_last:
            to_channels_last(objective.network, process.device.type)
            if process.device.type == "cpu" and not train.compile and products_are_quicker():
                by_products(objective.network)
        self.averaged = Averaged(objective.network, train.ema) if train.ema else None
        self._statistics = RunningStatistics(objective)
        self._buffers: BufferMean | None = None
        self._backward = Backward(objective, objective, train.accumulate, self._statistics)

    @property
    def network(self) -> nn.Module:
        """What is validated: the average where there is one."""
        return self.averaged.network if self.averaged else self.objective.network

    @property
    def rate(self) -> float:
        """The learning rate of parameters that have none of their own."""
        return float(self.optimizer.param_groups[0]["lr"])

    def scale(self) -> dict[str, float]:
        """What fp16's gradients are multiplied by, as a figure of the log; nothing without fp16."""
        return {"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {}

    def _normalise(self, rows: int) -> int:
        """Put the BatchNorms in place that were asked for; returns the groups of a rank's rows, or 0."""
        if self._train.sync_norm:
            convert(self.objective, SharedBatchNorm)
            return 1
        if self._train.norm_rows is None and self._train.accumulate == 1:
            return 0  # torch's own
        of_a_piece = rows // self._train.accumulate
        groups = of_a_piece // (self._train.norm_rows or of_a_piece)
        convert(self.objective, lambda layer: GhostBatchNorm(layer, groups))
        return groups * self._train.accumulate

    def flops(self, stand_in: Mapping[str, torch.Tensor]) -> int:
        """Floating-point operations of a pass forward and back, of products and convolutions.

        To be asked before `prepare`: what is compiled then does not show them.
        """
        from torch.utils.flop_counter import FlopCounterMode  # which runs that train need not wait for

        self.objective.train()
        self.objective.begin(Progress(0, 0, 0.0, 1))
        with FlopCounterMode(display=False) as counter:
            rehearse(self.objective, lambda: self._backward(stand_in, lambda loss: loss, lambda _: None))
        return counter.get_total_flops()

    def prepare(self, stand_in: Mapping[str, torch.Tensor]) -> None:
        """Compile, join the other ranks, and rehearse a step with `stand_in`, a batch of the usual shape."""
        if self._train.compile:
            for layer in self.objective.modules():
                if isinstance(layer, SharedBatchNorm):
                    layer.keep_out_of_graphs()
            self.objective.network.compile()
        parallel: nn.Module = self.objective
        if self._process.world > 1:
            leave_to_ranks(self.objective)
            devices = [self._process.device] if self._process.device.type == "cuda" else None
            with nullcontext() if self._train.compile else default_ddp_mode():
                parallel = DistributedDataParallel(
                    self.objective, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False
                )
            if not self._groups:
                self._buffers = BufferMean(self.objective)
        self._backward = Backward(self.objective, parallel, self._train.accumulate, self._statistics)
        self.objective.train()
        self.objective.begin(Progress(0, 0, 0.0, 1))
        rehearse(self.objective, lambda: self._backward(stand_in, lambda loss: loss, lambda _: None))

    def step(
        self,
        batch: Mapping[str, torch.Tensor],
        progress: Progress,
        rate: float,
        reseed: Callable[[int], None],
    ) -> Outcome:
        """One step at the learning rate `rate`; see Backward for batch and reseed."""
        set_rates(self.optimizer.param_groups, rate)
        self.objective.begin(progress)
        self.optimizer.zero_grad(set_to_none=True)
        outcome = self._backward(batch, self.scaler.scale, reseed)
        figures = dict(outcome.figures)
        if self._optim.clip is not None:
            self.scaler.unscale_(self.optimizer)
            figures["gradient_norm"] = self._clip(self._optim.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self._groups:
            self._statistics.take(self._groups)
        elif self._buffers is not None:
            self._buffers.take()
        if self.averaged is not None:
            self.averaged.take(progress.step)
        return Outcome(outcome.loss, figures)

    def _clip(self, most: float) -> torch.Tensor:
        """Hold the norm of all gradients to `most`; returns what it was, 0 where fp16 overflowed."""
        norm = clip_gradients(self.objective, most)
        return (
            torch.where(norm.isfinite(), norm, torch.zeros_like(norm)) if self.scaler.is_enabled() else norm
        )

    def weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """The weights by the checkpoint's fields that hold them.

        "network" is what is evaluated: where that is the average, "trained" is what training goes on with.
        """
        weights = {name: part.state_dict() for name, part in self.objective.parts().items()}
        if self.averaged is not None:
            weights["trained"] = weights["network"]
            weights["network"] = self.averaged.network.state_dict()
        return weights

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it: weights, the optimiser's moments, the scale of fp16's gradients.

        All ranks must call it together, where they have shards; whole ones are on rank 0 alone.
        """
        weights, moments = whole_state(self.weights(), self.objective, self.optimizer)
        scaler = {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {**weights, "optimizer": moments, **scaler}
