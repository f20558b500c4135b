# SPDX-License-Identifier: Apache-2.0
"""How long a chunk takes, part by part: the nano π0, and a π0 with random weights.

With a GPU the π0 has its full size and computes in bfloat16; without one it is small, so that the
same code runs, and its figures say nothing of the full size. The eager call and the compiled one
take turns, so that whatever else the machine does meets both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vla_data.observation import Observation

from ..checkpoint import default_checkpoint, load_flow_policy
from ..nano_pi0 import NanoPi0, NanoPi0Config
from ..pi0.layout import full_size
from ..pi0.policy import FEATURES, Pi0Policy
from ..policy import NetworkPolicy
from ..spec import PolicySpec
from ..state_parts import make_state_parts
from ..statistics import Statistics
from ..tokenizer import InstructionTokenizer
from ..types import Array
from .latency import measure_parts, sampler_cost_ratio
from .roofline import Roofline, measure_machine
from .transport import round_trips

INSTRUCTION = "pick up the red cube"
_JOINTS = tuple(f"joint{i}" for i in range(1, 8))

Report = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        device: Of the π0; the nano one is measured on the CPU.
        rounds: Chunks of each.
        views: Numbers of cameras of the π0.
        backend: Of ``torch.compile``; empty leaves the compiled flow out.
    """

    device: str
    rounds: int = 50
    views: tuple[int, ...] = (2, 3)
    backend: str = "inductor"


def run(setting: Setting, report: Report = lambda name: None) -> dict[str, float]:
    """Measures; see ``docs/benchmarks.md`` for the names of the figures."""
    eager, nano = (load_flow_policy(default_checkpoint()) for _ in range(2))
    report("nano π0")
    observation = make_observation(nano.spec)
    nano.prepare(observation)
    measured = measure_parts({"traced": nano, "eager": eager}, observation, setting.rounds)
    figures = _named("nano", measured["traced"])
    ratios = measured["eager"]["total"] / measured["traced"]["total"]
    figures["nano_eager_over_traced_ratio"] = float(np.median(ratios))
    # Guidance needs the gradient, which a traced flow does not have.
    figures["nano_sampler_cost_ratio"] = sampler_cost_ratio(eager, observation, setting.rounds)
    p50, p99 = round_trips(observation, setting.rounds)
    figures.update({"nano_transport_p50_ms": p50, "nano_transport_p99_ms": p99})
    machine = measure_machine(setting.device)
    full = torch.device(setting.device).type == "cuda"
    shape = full_size() if full else reduced_size()
    for views in setting.views:
        name = f"pi0_{views}_views" if full else f"pi0_reduced_{views}_views"
        report(name)
        figures.update(_measure_pi0(name, replace(shape, cameras=views), setting, machine))
    return figures


def _measure_pi0(
    name: str, shape: NanoPi0Config, setting: Setting, machine: Roofline
) -> dict[str, float]:
    dtype = torch.float32 if setting.device == "cpu" else torch.bfloat16
    network = random_network(shape, setting.device, dtype)
    policies: dict[str, NetworkPolicy] = {"eager": make_policy(network, setting.device)}
    if setting.backend:
        policies["compiled"] = make_policy(network, setting.device)
        policies["compiled"].compile(setting.backend)
    observation = make_observation(policies["eager"].spec, height=480, width=640)
    measured = measure_parts(policies, observation, setting.rounds)
    figures: dict[str, float] = {}
    for kind, rows in measured.items():
        figures.update(_named(f"{name}_{kind}", rows))
    p50, p99 = round_trips(observation, setting.rounds)
    figures.update({f"{name}_transport_p50_ms": p50, f"{name}_transport_p99_ms": p99})
    bound = 1e3 * machine.bound(network)
    figures[f"{name}_roofline_ms"] = bound
    best = measured["compiled" if setting.backend else "eager"]
    on_device = np.median(best["prefix"]) + np.median(best["denoising"])
    figures[f"{name}_over_roofline_ratio"] = float(on_device / bound)
    if setting.backend:
        ratios = measured["eager"]["total"] / measured["compiled"]["total"]
        figures[f"{name}_eager_over_compiled_ratio"] = float(np.median(ratios))
    return figures


def _named(name: str, rows: dict[str, Array]) -> dict[str, float]:
    figures = {}
    for part, times in rows.items():
        for percentile in (50, 99):
            figures[f"{name}_{part}_p{percentile}_ms"] = float(np.percentile(times, percentile))
    return figures


def reduced_size() -> NanoPi0Config:
    """π0 with its inputs, chunk and steps, but a small network."""
    return replace(
        full_size(),
        vocab_size=512,
        image_token_id=511,
        vision_width=48,
        vision_layers=1,
        vision_mlp=96,
        vision_heads=3,
        language_width=64,
        language_mlp=128,
        expert_width=32,
        expert_mlp=64,
        layers=1,
        heads=4,
        head_dim=16,
    )


def random_network(shape: NanoPi0Config, device: str, dtype: torch.dtype) -> NanoPi0:
    """A network with weights that were drawn, where it computes."""
    with torch.device(device):
        network = NanoPi0(shape, initialise=False, dtype=dtype)
    network.pi0.model.dit.embed_tokens = None
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.02)
    return network


def make_policy(network: NanoPi0, device: str, kind: type[Pi0Policy] = Pi0Policy) -> Pi0Policy:
    """A network as a policy of an arm with seven joints; its chunks mean nothing."""
    shape = network.config
    parts = make_state_parts(["joint_position", "gripper_opening"], _JOINTS, None)
    spec = PolicySpec(
        cameras=tuple(f"camera{i}" for i in range(shape.cameras)),
        image_size=shape.image_size,
        joint_names=_JOINTS,
        state_names=tuple(name for part in parts for name in part.names),
        horizon=shape.horizon,
        step_dt=0.05,
        execute_steps=shape.horizon // 2,
        feature_name=FEATURES,
        feature_shape=(shape.flow_steps, shape.horizon, shape.expert_width),
        latency_s=0.0,
        robot="none",
        fits_images=True,
    )
    statistics = Statistics(
        state_mean=np.zeros(shape.state_dim),
        state_std=np.ones(shape.state_dim),
        action_mean=np.zeros((shape.horizon, shape.action_dim)),
        action_std=np.ones((shape.horizon, shape.action_dim)),
        samples=0,
    )
    tokenizer: Any = InstructionTokenizer.build([INSTRUCTION], shape.text_tokens)
    return kind(network, tokenizer, statistics, spec, parts, device)


def make_observation(
    spec: PolicySpec, height: int | None = None, width: int | None = None
) -> Observation:
    """An observation of noise that fits a policy."""
    rng = np.random.default_rng(0)
    size = (height or spec.image_size, width or spec.image_size, 3)
    return Observation(
        stamp_ns=1,
        images={name: rng.integers(0, 256, size, dtype=np.uint8) for name in spec.cameras},
        q=np.zeros(len(spec.joint_names)),
        dq=np.zeros(len(spec.joint_names)),
        gripper_opening=0.0,
        instruction=INSTRUCTION,
        pose_tool_in_base=np.eye(4),
    )
