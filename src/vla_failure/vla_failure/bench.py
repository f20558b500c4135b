# SPDX-License-Identifier: Apache-2.0
"""What scoring an inference costs on one core.

The weights are those of a moment's training on noise: what a step costs does not depend on them.
"""

from __future__ import annotations

import time
from dataclasses import fields

import numpy as np

from .calibration import fit_band
from .detectors import CONTROLS, DETECTORS, score_episode
from .detectors.saving import make_detector
from .episodes import Episode, EpisodeInfo, Outcome
from .report.study import OURS

# Shapes of the nano π0 that comes with the suite.
WIDTH, HORIZON, STATES = 320, 16, 24
_STEP_DT, _EXECUTE_STEPS, _STEPS = 0.05, 8, 25
_EPISODES = 24
_ALPHA = 0.15


def run(rounds: int = 2000) -> dict[str, float]:
    """Times of a step of every detector that needs one sample, with the comparison to its band.

    Args:
        rounds: Steps per detector.

    Returns:
        ``step_p50_ms`` and ``step_p99_ms`` of ours, ``step_p50_<name>_ms`` and so on of the others.
    """
    episodes = [_noise(seed) for seed in range(_EPISODES)]
    figures = {}
    for name, kind in DETECTORS.items():
        if kind.needs_samples or name in CONTROLS:
            continue
        learns = any(field.name == "updates" for field in fields(kind))
        detector = make_detector(name, {"updates": 1} if learns else {})
        detector.fit(episodes)
        scores = [score_episode(detector, episode) for episode in episodes[::2]]
        band = fit_band(scores[:5], scores[5:], _ALPHA)
        taken: list[int] = []
        while len(taken) < rounds:
            for episode in episodes:
                steps = list(episode.steps())
                detector.start(episode.info.start)
                for index, step in enumerate(steps):
                    began = time.perf_counter_ns()
                    band.alarms(index, detector.step(step))
                    taken.append(time.perf_counter_ns() - began)
        suffix = "" if name == OURS else f"_{name}"
        for share in (50, 99):
            figures[f"step_p{share}{suffix}_ms"] = float(np.percentile(taken, share)) * 1e-6
    return figures


def _noise(seed: int) -> Episode:
    """An episode of nothing in particular; every other one failed."""
    rng = np.random.default_rng([seed, 3])
    failed = seed % 2 == 1
    chunks = np.cumsum(rng.normal(0.0, 0.01, (_STEPS, HORIZON, 10)), axis=1)
    chunks += np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.04])
    period = _STEP_DT * _EXECUTE_STEPS
    info = EpisodeInfo(
        episode_id=str(seed),
        policy_id="noise",
        task="none",
        suite="none",
        perturbation="none",
        severity=0.0,
        seed=seed,
        instruction="",
        time_limit=_STEPS * period,
        step_dt=_STEP_DT,
        execute_steps=_EXECUTE_STEPS,
        outcome=Outcome.FAILURE if failed else Outcome.SUCCESS,
        success_time=None if failed else _STEPS * period,
        onset_step=_STEPS // 2 if failed else None,
    )
    return Episode(
        info=info,
        times=period * np.arange(_STEPS, dtype=np.float64),
        features=rng.normal(size=(_STEPS, 3, 3, WIDTH)).astype(np.float16),
        chunks=chunks.astype(np.float32),
        states=rng.normal(size=(_STEPS, STATES)).astype(np.float32),
    )
