# SPDX-License-Identifier: Apache-2.0
"""Training of the nano π0: resumable, on CPU or CUDA, by samples or wall-clock."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..nano_pi0 import NanoPi0, NanoPi0Config
from .augmentation import augment_images
from .dataset import TrainingData
from .objective import Batch, Objective, sample_time, split_batch
from .optimisation import MasterOptimizer, schedule_factor
from .validation import validate

STATE_FILE = "training_state.pt"
LOG_FILE = "training_log.jsonl"
_PARTS_PER_THREAD = 2
_PREFIX = "policy."  # of the policy's parameters among those of the objective


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        samples: Conditions to process in all.
        max_hours: Wall-clock budget over all runs; whichever of both ends first counts.
        batch_size: Conditions per step.
        copies: Noise samples per encoded condition (K).
        lr: Peak rate of AdamW.
        muon_lr: Peak rate of Muon for hidden matrices; 0 uses AdamW for all.
        weight_decay: Decoupled weight decay of matrices.
        clip: Largest gradient norm.
        ema: Decay of the average of weights per step.
        warmup: Fraction of the training with a rising rate.
        decay: Fraction at the end with a falling rate.
        position_weight: Weight of the auxiliary loss.
        patch_weight: Weight of the loss on what each patch shows.
        shift_px: Largest random shift of an image.
        jitter: Spread of brightness and contrast.
        state_noise: Standard deviation of noise on the normalised state.
        velocity_dropout: Probability of hiding all joint velocities of a sample.
        state_dropout: Probability of hiding a sample's whole state: the arm is seen in the images
            too, and a policy that trusts its own position more than its eyes confirms its errors.
        bfloat16: Whether the network computes in bf16 (weights keep an fp32 master).
        compile: Whether to compile the objective.
        threads: CPU threads.
        validate_every: Samples between validations.
        save_every_s: Seconds between saved states.
        seed: Of order, noise and augmentation.
    """

    samples: int = 2_000_000
    max_hours: float = 1.0e6
    batch_size: int = 32
    copies: int = 4
    lr: float = 1.0e-3
    muon_lr: float = 4.0e-3
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    warmup: float = 0.002
    decay: float = 0.25
    position_weight: float = 0.5
    patch_weight: float = 0.1
    shift_px: int = 1
    jitter: float = 0.15
    state_noise: float = 0.01
    velocity_dropout: float = 0.2
    state_dropout: float = 0.1
    bfloat16: bool = True
    compile: bool = True
    threads: int = 2
    validate_every: int = 16_000
    save_every_s: float = 300.0
    seed: int = 0


class Trainer:
    """Owns model, optimiser, order of the data and sources of randomness.

    Args:
        config: How to train.
        shape: Shape of the network.
        data: Training and validation samples.
        out_dir: Where state and log go; a state found there is continued.
        device: ``cpu``, ``cuda`` or None for CUDA where present.
        report: Called with every log entry.
        on_save: Called after every saved state.
    """

    def __init__(
        self,
        config: TrainConfig,
        shape: NanoPi0Config,
        data: TrainingData,
        out_dir: Path,
        device: str | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
        on_save: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.config = config
        self.shape = shape
        self.data = data
        self.out_dir = out_dir
        self.samples = 0
        self.elapsed = 0.0
        self._report = report
        self._on_save = on_save
        self._stop: str | None = None
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._workers = config.threads if self._device.type == "cpu" else 1
        self._warm = 0
        self._pool: ThreadPoolExecutor | None = None
        if self._workers > 1:
            if config.batch_size % (_PARTS_PER_THREAD * self._workers):
                raise ValueError(
                    f"batch_size {config.batch_size} must be a multiple of {_PARTS_PER_THREAD} x "
                    f"{self._workers} threads"
                )
            # Each thread takes part after part of the batch, joined once per step: on shared cores
            # a parallel region inside every operator waits for the slowest thread thousands of
            # times, and a thread that has a core to itself takes more parts than one that has not.
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self._workers)
        elif self._device.type == "cpu":
            torch.set_num_threads(1)
        torch.manual_seed(config.seed)
        policy = NanoPi0(shape)
        # SDPA's CPU backward takes three times as long as plain matrix products at these sizes.
        policy.pi0.set_attn_implementation("eager" if self._device.type == "cpu" else "sdpa")
        self.objective = Objective(
            policy,
            data.positions.shape[1],
            data.patches.shape[2],
            config.position_weight,
            config.patch_weight,
        )
        self._dtype = torch.bfloat16 if config.bfloat16 else torch.float32
        named = list(self.objective.named_parameters())
        self.objective.to(self._device)
        self.optimizer = MasterOptimizer(
            named, config.lr, config.muon_lr, config.weight_decay, config.clip, config.ema
        )
        self.objective.to(self._dtype)
        self._loss: Callable[[Batch], tuple[Tensor, Tensor, Tensor]] = self.objective
        if config.compile:
            self._loss = torch.compile(self.objective, dynamic=False)
        self._generator = torch.Generator().manual_seed(config.seed)
        out_dir.mkdir(parents=True, exist_ok=True)
        if (out_dir / STATE_FILE).is_file():
            self._load()

    @property
    def progress(self) -> float:
        """Fraction of the training that is done."""
        by_time = self.elapsed / (self.config.max_hours * 3600.0)
        return max(self.samples / self.config.samples, by_time)

    def run(self) -> dict[str, Any]:
        """Trains until done or until SIGINT or SIGTERM; saves either way.

        Returns:
            What was reached and what was kept.
        """
        config = self.config
        last_save = time.monotonic()
        window = _Window()
        with _signals(self._request_stop):
            while self.progress < 1.0 and self._stop is None:
                start = time.monotonic()
                entry = self.step()
                self.elapsed += time.monotonic() - start
                window.add(entry, config.batch_size, time.monotonic() - start)
                if self.samples % config.validate_every < config.batch_size:
                    self._log({**window.summary(), **self.validate()})
                    window = _Window()
                elif window.samples >= 100 * config.batch_size:
                    self._log(window.summary())
                    window = _Window()
                if time.monotonic() - last_save > config.save_every_s:
                    self.save()
                    last_save = time.monotonic()
        self.save()
        result = {
            "event": "stopped" if self._stop else "finished",
            "reason": self._stop or "training complete",
            "samples": self.samples,
            "hours": self.elapsed / 3600.0,
        }
        self._log(result)
        return {**result, "kept": str(self.out_dir / STATE_FILE)}

    def step(self) -> dict[str, float]:
        """One optimiser step on the next batch; returns its losses."""
        self.objective.train()
        batch = self._train_batch()
        count = _PARTS_PER_THREAD * self._workers if self._pool is not None else 1
        parts = list(split_batch(batch, count))
        if self._pool is None or self._warm < 2:
            # Compilation happens in the first calls and is not thread-safe.
            results = [self._gradients(part) for part in parts]
            self._warm += 1
        else:
            results = list(self._pool.map(self._gradients, parts))
        gradients = [_mean(values) for values in zip(*(g for g, _ in results), strict=True)]
        flow, position = (sum(v) / count for v in zip(*(r for _, r in results), strict=True))
        factor = schedule_factor(self.progress, self.config.warmup, self.config.decay)
        run = map if self._pool is None else self._pool.map
        norm = self.optimizer.step(gradients, factor, run)
        self.samples += self.config.batch_size
        return {
            "flow_loss": flow,
            "position_loss": position,
            "gradient_norm": norm,
            "rate_factor": factor,
        }

    def _gradients(self, batch: Batch) -> tuple[list[Tensor | None], tuple[float, float]]:
        """Gradients of one part of a batch, and its losses. Runs in a worker thread on CPU."""
        total, flow, position = self._loss(batch)
        gradients = torch.autograd.grad(total, self.optimizer.parameters, allow_unused=True)
        return list(gradients), (float(flow.detach()), float(position.detach()))

    def _train_batch(self) -> Batch:
        config, generator = self.config, self._generator
        indices = self.data.train_indices(self.samples, config.batch_size, config.seed)
        count = len(indices)
        images = torch.from_numpy(self.data.read_images(indices)).to(self._device)
        images = augment_images(images, generator, config.shift_px, config.jitter, self._dtype)
        state = self.data.state[indices]
        state = state + config.state_noise * torch.randn(state.shape, generator=generator)
        hidden = torch.rand((count, 1), generator=generator) < config.velocity_dropout
        state = torch.where(hidden & self.data.is_velocity[None, :], 0.0, state)
        blind = torch.rand((count, 1), generator=generator) < config.state_dropout
        state = torch.where(blind, 0.0, state)
        choice = torch.rand(count, generator=generator)
        tokens, valid = self.data.instruction_tokens(indices, choice)
        shape = (count, config.copies, self.shape.horizon, self.shape.action_dim)
        return self._batch(
            images=images,
            token_ids=tokens,
            token_valid=valid,
            state=state,
            actions=self.data.actions[indices],
            actions_valid=self.data.actions_valid[indices],
            noise=torch.randn(shape, generator=generator),
            time=sample_time(shape[:2], generator),
            positions=self.data.positions[indices],
            positions_valid=self.data.positions_valid[indices],
            patches=self.data.patches[indices],
        )

    def _batch(self, **tensors: Tensor) -> Batch:
        return Batch(**{k: v.to(self._device, non_blocking=True) for k, v in tensors.items()})

    def validate(self) -> dict[str, float]:
        """Losses and errors of the averaged weights on held-out episodes."""
        self.objective.eval()
        self.optimizer.load_into_model(self.optimizer.average)
        result = validate(self.objective, self.data, self._device, self._dtype)
        self.optimizer.load_into_model(self.optimizer.master)
        return result

    def start_from(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Takes a policy's weights as the start; optimiser and auxiliary head are new.

        Args:
            weights: All of the policy, by name.
            name: What the log calls it.
        """
        prefixed = {_PREFIX + key: weight for key, weight in weights.items()}
        self.optimizer.start_from(prefixed)
        self._log({"event": "started from", "policy_id": name})

    def average_weights(self) -> dict[str, Tensor]:
        """Averaged fp32 weights of the policy (without the auxiliary head), by name."""
        return {
            name[len(_PREFIX) :]: weight.detach().cpu().clone()
            for name, weight in zip(self.optimizer.names, self.optimizer.average, strict=True)
            if name.startswith(_PREFIX)
        }

    def save(self) -> None:
        """Writes the state atomically: a crash leaves the previous one."""
        state = {
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "samples": self.samples,
            "elapsed": self.elapsed,
            "config": asdict(self.config),
            "shape": self.shape.to_dict(),
        }
        path = self.out_dir / STATE_FILE
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)
        if self._on_save is not None:
            self._on_save(self)

    def _load(self) -> None:
        path = self.out_dir / STATE_FILE
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["shape"] != self.shape.to_dict():
            raise ValueError(f"{path} belongs to a network of another shape: {state['shape']}")
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self.samples = int(state["samples"])
        self.elapsed = float(state["elapsed"])
        self._log({"event": "resumed"})

    def _request_stop(self, reason: str) -> None:
        self._stop = reason

    def _log(self, entry: dict[str, Any]) -> None:
        entry = {"samples": self.samples, "elapsed_s": round(self.elapsed, 1), **entry}
        with (self.out_dir / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._report is not None:
            self._report(entry)


class _Window:
    """Means over the steps since the last log entry."""

    def __init__(self) -> None:
        self.samples = 0
        self._seconds = 0.0
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, entry: dict[str, float], samples: int, seconds: float) -> None:
        """Adds one step."""
        self.samples += samples
        self._seconds += seconds
        self._count += 1
        for name, value in entry.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def summary(self) -> dict[str, float]:
        """Mean values and samples per second."""
        means = {name: total / max(self._count, 1) for name, total in self._sums.items()}
        return {"samples_per_s": self.samples / max(self._seconds, 1e-9), **means}


def _mean(values: Sequence[Tensor | None]) -> Tensor | None:
    """Mean of the parts' gradients in fp32, always in the same order."""
    known = [value.float() for value in values if value is not None]
    return torch.stack(known).mean(0) if known else None


@contextmanager
def _signals(request: Callable[[str], None]) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into a request to stop after the current step."""

    def handler(number: int, _frame: FrameType | None) -> None:
        request(signal.Signals(number).name)

    try:
        old = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
