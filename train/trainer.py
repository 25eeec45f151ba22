"""The training loop: from one step to the next, with everything about a run that a step needs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from eval.checkpoint.file import first_not_finite
from shard_tools import philox
from shard_tools.errors import UserError
from train.augment.device import augment
from train.config.kept import kept_config
from train.config.sections import Config
from train.data.loader import NoBatchError, open_loader
from train.data.pipeline import Stream
from train.finite import FiniteWatch, describe, first_of_all, keys_of, record
from train.learner import Learner
from train.life.checkpoint import CheckpointFolder
from train.life.distributed import Process
from train.life.log import RunLog
from train.life.saver import Saver
from train.life.signals import flag
from train.life.stop import Vote
from train.optim import Schedule
from train.progress import Progress
from train.report import Reporter, Sums
from train.seeding import seed_generators
from train.validation import Validation

logger = logging.getLogger("train")


class Trainer:
    """Runs the steps [first, last) of a run.

    learner: of the network; schedule: of its learning rate; validation: what it is validated on, or None;
    digests: of the data, by which a checkpoint knows them again (see train/life/resume.py).
    """

    def __init__(
        self,
        config: Config,
        process: Process,
        stream: Stream,
        learner: Learner,
        schedule: Schedule,
        checkpoints: CheckpointFolder,
        validation: Validation | None,
        digests: Mapping[str, str],
    ) -> None:
        self.config = config
        self.process = process
        self.stream = stream
        self.learner = learner
        self.schedule = schedule
        self.checkpoints = checkpoints
        self.validation = validation
        self.digests = digests
        self.saved_step: int | None = None  # of the newest checkpoint that is whole
        self.validated = True  # whether the validation of the checkpoint resumed from came to its end
        self.saving: Callable[[], None] = lambda: None  # called before each checkpoint is written
        self.saved: Callable[[], None] = lambda: None  # and after it
        self._vote = Vote(flag)
        self._saver = Saver(checkpoints, config.checkpoint.background, self._written)
        self._newest: int | None = None  # step of the newest checkpoint, which may still be on its way
        self._reporter = Reporter(stream.plan, process, config.data)
        self._finite = FiniteWatch(process.device, stream.plan.spec.size // process.world)

    def run(self, first: int, last: int, log: RunLog) -> int:
        """Run the steps, save and validate between them; returns the steps done, `last` unless stopped."""
        if first < last:
            self._prepare()
        # A run that was ended in the midst of validating does that first.
        if first and not self.validated and self._validation_due(first, last):
            self._between_steps(first, last, log)
        with open_loader(
            self.stream,
            first,
            last,
            workers=self.config.data.workers,
            prefetch=self.config.data.prefetch,
            pin_memory=self.process.device.type == "cuda",
        ) as data:
            done = self._steps(first, last, data, log)
        self._vote.meet()
        return done

    def _steps(self, first: int, last: int, data: Iterator[dict[str, Any]], log: RunLog) -> int:
        """Run the steps with the batches of `data`; returns the steps done."""
        sums = Sums(time.perf_counter())
        vote = self._vote
        done = first
        stopping = False
        while done < last and not stopping:
            vote.begin(alarm=self._finite.seen())
            try:
                self._step(done, last, data, sums)
            except NoBatchError as error:
                if not self.learner.objective.sharded():  # which takes all ranks to save
                    self.save(done, alone=True)
                if not flag.raised or self.process.world > 1:  # the others are in the midst of the step
                    raise
                logger.warning("%s", error)
                break
            log.advance()
            done += 1
            self._saver.poll()
            stopping = vote.end() and done < last
            if vote.alarm:
                self._require_finite()
            if stopping or done % self.config.train.log_every == 0 or done == last:
                sums = Sums(self._report(done, sums, log))
            if stopping:
                self.save(done)
            else:
                sums.paused += self._between_steps(done, last, log)
        return done

    def flops(self) -> int:
        """Floating-point operations of this rank's part of a step; to be asked before `run`."""
        return self.learner.flops(self._stand_in())

    def _prepare(self) -> None:
        self.learner.prepare(self._stand_in())

    def _stand_in(self) -> dict[str, torch.Tensor]:
        """A batch of the longest crops, on the device."""
        spec = self.stream.plan.spec
        rows = spec.size // self.process.world
        generator = torch.Generator().manual_seed(0)
        stand_in = {
            "audio": torch.randn(rows, spec.crop, generator=generator) * 0.1,
            "label": torch.zeros(rows, dtype=torch.int64),
        }
        return {name: tensor.to(self.process.device) for name, tensor in stand_in.items()}

    def _step(self, step: int, last: int, data: Iterator[dict[str, Any]], sums: Sums) -> None:
        asked = time.perf_counter()
        batch = next(data)
        inputs = {name: self._on_device(batch[name]) for name in self.learner.objective.inputs}
        if "prepared" in batch:
            inputs["audio"] = augment(inputs["audio"], batch["prepared"], self.process.device)
        sums.waited += time.perf_counter() - asked
        if batch["step"] != step:
            raise RuntimeError(f"step {step} was given the batch of step {batch['step']}")

        plan = self.stream.plan
        progress = Progress(
            step, plan.epoch_of(step), step / plan.steps_per_epoch, last, self.config.run.seed
        )
        rate = self.config.optim.lr * self.schedule(progress)
        outcome = self.learner.step(inputs, progress, rate, lambda piece: self._reseed(step, piece))
        sums.add(outcome)
        self._finite.watch(step, outcome.loss, batch["utterance"])
        sums.substituted += batch["substituted"]

    def _reseed(self, step: int, piece: int) -> None:
        """Dropout and the like: keyed by (seed, step, rank), so that there is no generator state to save."""
        key = (self.process.rank, step, *([piece] if piece else []))
        seed = int(philox.words(self.config.run.seed, "torch", *key)) >> 1
        seed_generators(seed, self.process.device)

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.process.device, non_blocking=True)

    def _report(self, step: int, sums: Sums, log: RunLog) -> float:
        """Returns when the steps that it reports ended, by time.perf_counter()."""
        learner = self.learner
        loss, ended = self._reporter.report(step, sums, learner.rate, learner.scale(), log)
        if not math.isfinite(loss):
            self._require_finite()
        return ended

    def _require_finite(self) -> None:
        """Raise UserError, on all ranks, where a rank's loss was not finite; all must call this together."""
        loader = self.stream.loader
        keys = partial(keys_of, loader.reader.catalogue, loader.speeds)
        found = first_of_all(self._finite, self.process.rank, keys)
        if not found:
            return
        folder = None if self.config.train.dry else self.config.run.folder
        if folder and self.process.leads:
            record(found, folder)
        raise UserError(
            f"{describe(found, folder)}: lower optim.lr ({self.config.optim.lr}), or look at "
            f"the data; the last checkpoint is of step {self.saved_step}"
        )

    def _between_steps(self, done: int, last: int, log: RunLog) -> float:
        """Validate and save when due after `done` steps; returns the seconds that took."""
        validating = self._validation_due(done, last)
        if not (validating or done % self.config.checkpoint.every == 0 or done == last):
            return 0.0
        if self.process.device.type == "cuda":
            torch.cuda.synchronize(self.process.device)  # what it has still to do are steps
        began = time.perf_counter()
        self._require_finite()
        # Before validating, which may take longer than the job has left.
        self.save(done, wait=done == last)
        if validating:
            self._validate(done, log)
        return time.perf_counter() - began

    def _validation_due(self, done: int, last: int) -> bool:
        return self.validation is not None and self.validation.due(done, last)

    def _validate(self, step: int, log: RunLog) -> None:
        """By all ranks together, noted beside the checkpoint."""
        assert self.validation is not None
        rates = self.validation.rates(self.learner.network, self.process.device, step, log)
        self._wait_for_checkpoint()  # a note is of one that is there
        if self.process.leads:
            self.checkpoints.note(rates)

    def save(self, step: int, *, wait: bool = True, alone: bool = False) -> None:
        """Write the checkpoint after `step` steps, on rank 0.

        wait: until it is whole, on all ranks. alone: the others are elsewhere. Nothing of a validation is in
        it, which comes after: see `CheckpointFolder.note`. Raises UserError for weights that are not finite,
        which nothing could go on from.
        """
        if step != self._newest:
            self._begin_saving(step)
        if wait or not self.config.checkpoint.background:
            self._wait_for_checkpoint(alone=alone)

    def _wait_for_checkpoint(self, *, alone: bool = False) -> None:
        """Until rank 0 has written it."""
        if not alone:
            self._vote.wait_while(self._saver.busy)
        self._saver.wait()

    def _begin_saving(self, step: int) -> None:
        state = self.learner.state()  # on every rank: each sends its part of what they share
        diverged = next(
            filter(None, (first_not_finite(state[name]) for name in self.learner.weights())), None
        )
        if diverged is not None:
            raise UserError(
                f"the weights hold NaN or infinity after step {step}, first in {diverged}: lower "
                f"optim.lr ({self.config.optim.lr}), or look at the data; the last checkpoint is of step "
                f"{self.saved_step}"
            )
        self._newest = step
        if not self.process.leads:
            self.saved_step = step
            return
        self.saving()
        plan = self.stream.plan
        origin = plan.origin(step)
        self._saver.save(
            {
                "step": step,
                "config": kept_config(self.config),
                "speakers": plan.speakers,
                **self.digests,
                "anchor": None if origin is None else origin.record(),
                **state,
            }
        )

    def _written(self, step: int) -> None:
        self.saved_step = step
        self.saved()
        logger.info("step %d: wrote %s", step, self.checkpoints.url_of(step))

    def resumes(self, step: int, validated: bool) -> None:
        """The run goes on from the checkpoint of `step`; validated: whether its validation ended."""
        # That of step 0 is written again, to try the folder.
        self._newest = self.saved_step = step or None
        self.validated = validated

    def close(self) -> None:
        """Wait for the checkpoint that is being written."""
        self._saver.wait()
