# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_rollouts import make_episode, make_episodes

from vla_failure import FailureDetectionError
from vla_failure.detectors import CONTROLS, DETECTORS, Detector, score_episode
from vla_failure.detectors.saving import load_detector, make_detector, save_detector

# Few updates, large steps: enough for what is told apart here.
QUICK = {
    "safe_mlp": {"updates": 40, "learning_rate": 3e-3, "hidden": 16},
    "safe_lstm": {"updates": 40, "learning_rate": 1e-2, "hidden": 8},
    "td_lstm": {"updates": 40, "learning_rate": 1e-2, "hidden": 8},
    "proprioception": {"updates": 40, "learning_rate": 1e-2, "hidden": 8},
    "rnd": {"updates": 20, "learning_rate": 1e-3, "hidden": 32},
    "logpzo": {"updates": 20, "learning_rate": 1e-3, "hidden": 32},
    "pca_kmeans": {"components": 4, "clusters": 3},
}
# What has nothing to see in the synthetic episodes: they all take as long, tasks and perturbations
# fail equally often.
BLIND = ("clock", "task_id", "perturbation_id", "severity", "policy_id", "random")


@pytest.fixture(scope="module")
def fitted() -> dict[str, Detector]:
    detectors = {}
    for name in DETECTORS:
        detectors[name] = make_detector(name, QUICK.get(name))
        detectors[name].fit(make_episodes(32, samples=4), seed=1)
    return detectors


@pytest.mark.parametrize("name", DETECTORS)
def test_failures_score_higher_once_they_show(name: str, fitted: dict[str, Detector]) -> None:
    detector = fitted[name]
    scores = {"success": [], "failure": []}
    for seed in range(100, 140):
        outcome = "failure" if seed % 2 else "success"
        episode = make_episode(seed, outcome, samples=4)
        scores[outcome].append(score_episode(detector, episode)[-1])
    wins = np.subtract.outer(scores["failure"], scores["success"])
    auc = np.mean((wins > 0) + 0.5 * (wins == 0))
    if name in BLIND:
        assert 0.3 < auc < 0.7
    else:
        assert auc > 0.8, f"{name}: {auc}"


@pytest.mark.parametrize("name", DETECTORS)
def test_online_and_offline_are_the_same_to_the_last_bit(
    name: str, fitted: dict[str, Detector], tmp_path: Path
) -> None:
    episode = make_episode(7, "failure", samples=4)
    offline = score_episode(fitted[name], episode)
    save_detector(tmp_path, fitted[name])
    online = load_detector(tmp_path)
    # An episode that is broken off leaves nothing behind.
    online.start(episode.info.start)
    for step in list(make_episode(8, samples=4).steps())[:3]:
        online.step(step)
    online.start(episode.info.start)
    assert [online.step(step) for step in episode.steps()] == offline.tolist()
    assert np.all(np.isfinite(offline))


def test_a_score_depends_on_nothing_later(fitted: dict[str, Detector]) -> None:
    whole, cut = make_episode(9, samples=4, steps=10), make_episode(9, samples=4, steps=10)
    for array in (cut.features, cut.chunks, cut.states, cut.samples):
        array[6:] = array[:4]
    for name, detector in fitted.items():
        before = score_episode(detector, whole)[:6].tolist()
        assert before == score_episode(detector, cut)[:6].tolist(), name


def test_what_is_learned_depends_on_the_seed_alone() -> None:
    for name in ("safe_mlp", "td_lstm", "pca_kmeans", "rnd", "logpzo"):
        one, other = (make_detector(name, QUICK[name]) for _ in range(2))
        one.fit(make_episodes(12), seed=3)
        other.fit(make_episodes(12), seed=3)
        assert one.arrays.keys() == other.arrays.keys()
        for key, array in one.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[key], err_msg=f"{name} {key}")


def test_only_controls_and_sample_detectors_are_barred_from_the_headline() -> None:
    needing = {name for name, kind in DETECTORS.items() if kind.needs_samples}
    assert needing == {"stac", "sample_variance", "cluster_entropy"}
    assert set(CONTROLS) == {
        *("clock", "task_id", "perturbation_id", "severity", "policy_id", "proprioception"),
        "random",
    }
    alone = make_episode(3)
    for name in needing:
        detector = make_detector(name)
        detector.arrays = {"width": np.ones(1, np.float32)}
        with pytest.raises(FailureDetectionError, match="one sample"):
            score_episode(detector, alone)


def test_a_running_detector_needs_no_torch(fitted: dict[str, Detector], tmp_path: Path) -> None:
    save_detector(tmp_path, fitted["fused"])
    code = (
        "import sys; from pathlib import Path; from made_rollouts import make_episode;"
        "import vla_failure.loading;"
        "from vla_failure.detectors import score_episode;"
        "from vla_failure.detectors.saving import load_detector;"
        f"score_episode(load_detector(Path({str(tmp_path)!r})), make_episode(1));"
        "assert not {'torch', 'mujoco', 'pyarrow'} & sys.modules.keys()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_what_was_not_fitted_does_not_score() -> None:
    for name in ("fused", "safe_mlp", "td_lstm", "mahalanobis", "rnd", "action_probe", "task_id"):
        with pytest.raises(FailureDetectionError, match="was not fitted"):
            score_episode(make_detector(name), make_episode(1))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("safe", {}, "safe_mlp"),
        ("safe_mlp", {"width": 3}, "hidden"),
        ("safe_mlp", {"flow": "middle"}, "first, last, mean, first_last"),
        ("safe_mlp", {"hidden": 0}, "hidden is 0; valid: > 0"),
        ("safe_mlp", {"weight_decay": float("nan")}, "weight_decay is nan; valid: >= 0"),
        ("td_lstm", {"trace": 1.5}, "0 to 1"),
        ("td_lstm", {"updates": "many"}, "updates of 'td_lstm' is 'many'; valid: int, such as 400"),
        ("cosine", {"contrast": 1}, "contrast of 'cosine' is 1; valid: bool"),
        ("cosine", {"accumulate": "median"}, "none, mean, sum, max"),
    ],
)
def test_invalid_settings_name_the_valid_ones(
    name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(FailureDetectionError, match=message):
        make_detector(name, settings)


def test_a_broken_file_is_named(fitted: dict[str, Detector], tmp_path: Path) -> None:
    save_detector(tmp_path, fitted["mahalanobis"])
    path = tmp_path / "detector.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FailureDetectionError, match="cannot be read"):
        load_detector(tmp_path)


def test_there_must_be_something_to_tell_apart() -> None:
    good = [make_episode(seed) for seed in range(4)]
    for name in ("fused", "safe_mlp", "mahalanobis", "rnd", "action_probe", "task_id"):
        with pytest.raises(FailureDetectionError, match="4 episodes, 0 of them failed"):
            make_detector(name).fit(good)
