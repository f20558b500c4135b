# SPDX-License-Identifier: Apache-2.0
"""Synthetic episodes, in which what tells failures apart is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vla_failure.binding import Binding
from vla_failure.episodes import Episode, EpisodeInfo, Outcome

WIDTH, HORIZON, STATES = 6, 16, 4
STEP_DT, EXECUTE_STEPS = 0.05, 8
PERIOD = STEP_DT * EXECUTE_STEPS
BINDING = Binding(
    policy_id="p",
    feature_name="pre_velocity",
    feature_shape=(5, 16, 320),
    sampler="euler",
    schedule="asynchronous",
    execute_steps=8,
    step_dt=0.05,
    latency_s=0.1,
    cameras=("scene", "wrist"),
    image_size=96,
    robot="panda",
)


def make_info(seed: int = 0, outcome: str = "success", **changes: object) -> EpisodeInfo:
    values: dict[str, object] = {
        "episode_id": f"p-{seed}",
        "policy_id": "p",
        "task": "pick",
        "suite": "basic",
        "perturbation": "none",
        "severity": 0.0,
        "seed": seed,
        "instruction": "pick up the red block",
        "time_limit": 8.0,
        "step_dt": STEP_DT,
        "execute_steps": EXECUTE_STEPS,
        "outcome": Outcome(outcome),
        "success_time": 4.0 if outcome == "success" else None,
        "onset_step": 5 if outcome == "failure" else None,
    }
    return EpisodeInfo(**{**values, **changes})  # type: ignore[arg-type]


def make_episode(
    seed: int = 0,
    outcome: str = "success",
    *,
    steps: int = 10,
    shift: float = 2.0,
    samples: int = 0,
    **changes: object,
) -> Episode:
    """An episode whose failure shows from its onset on: features and states are shifted, chunks
    disagree.
    """
    info = make_info(seed, outcome, **changes)
    rng = np.random.default_rng([seed, 17])
    onset = info.onset_step if info.onset_step is not None else steps
    lost = (np.arange(steps) >= onset).astype(float)
    features = rng.normal(size=(steps, 3, 3, WIDTH))
    features[..., 0] += shift * lost[:, None, None]
    path = np.zeros((steps * EXECUTE_STEPS + HORIZON, 10))
    path[:, 0] = 0.4 + 0.002 * np.arange(len(path))
    path[:, 3], path[:, 7], path[:, 9] = 1.0, -1.0, 0.08
    chunks = np.stack([path[k * EXECUTE_STEPS : k * EXECUTE_STEPS + HORIZON] for k in range(steps)])
    wander = np.where(lost > 0, 0.03, 0.002)[:, None, None]
    chunks[..., :3] += wander * rng.normal(size=(steps, 1, 3))
    chunks[..., :3] += 0.3 * (wander - 0.002) * rng.normal(size=(steps, HORIZON, 3))
    drawn = None
    if samples:
        drawn = np.repeat(chunks[:, None], samples, axis=1)
        drawn[:, 1:, :, :3] += 3.0 * wander[:, None] * rng.normal(size=(steps, samples - 1, 1, 3))
    states = rng.normal(size=(steps, STATES))
    states[:, 0] += 0.5 * shift * lost
    return Episode(
        info=info,
        times=PERIOD * np.arange(steps),
        features=features.astype(np.float16),
        chunks=chunks.astype(np.float32),
        states=states.astype(np.float32),
        samples=None if drawn is None else drawn.astype(np.float32),
    )


def make_episodes(count: int = 40, **settings: object) -> list[Episode]:
    """As many successes as failures, of the same length, at two tasks in turn."""
    return [
        make_episode(
            seed,
            "failure" if seed % 2 else "success",
            task=("pick", "push")[seed // 2 % 2],
            **settings,  # type: ignore[arg-type]
        )
        for seed in range(count)
    ]


def binding(policy: str) -> Binding:
    return replace(BINDING, policy_id=policy, feature_shape=(5, 16, WIDTH))


def write_rollouts(folder: Path, policy: str, seeds: int = 120, first: int = 0) -> Path:
    from vla_failure import store  # scoring alone does without pyarrow, and is tested to

    episodes = [
        make_episode(
            seed,
            "failure" if (seed + number) % 3 == 0 else "success",
            task=task,
            episode_id=f"{policy}-{task}-{seed}",
            policy_id=policy,
            shift=4.0,
            **({"onset_step": 6} if (seed + number) % 3 == 0 else {}),
        )
        for seed in range(first, first + seeds)
        for number, task in enumerate(("pick", "push"))
    ]
    store.write_manifest(folder, {"binding": binding(policy).to_dict()})
    store.write_shard(folder, "all", episodes)
    return folder
