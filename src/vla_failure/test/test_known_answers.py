# SPDX-License-Identifier: Apache-2.0
"""Every baseline on a toy case whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_rollouts import STEP_DT, make_episode, make_episodes, make_info

from vla_failure.detectors import DETECTORS, score_episode
from vla_failure.detectors.base import View
from vla_failure.detectors.chunks import Overlap, points
from vla_failure.detectors.fused import FeatureProbe
from vla_failure.detectors.logistic import fit_logistic
from vla_failure.detectors.networks import LstmCell, Perceptron, sigmoid
from vla_failure.detectors.samples import squared_discrepancy
from vla_failure.detectors.saving import make_detector
from vla_failure.detectors.training import (
    LstmProbe,
    Mlp,
    Sequences,
    cumulated_sigmoid_loss,
    lambda_returns,
)
from vla_failure.episodes import Episode, FailureDetectionError
from vla_failure.measures.ranking import roc_auc


def set_features(episode: Episode, values: list[list[float]]) -> Episode:
    """The same episode with features that are the same in every aggregate."""
    rows = np.asarray(values, np.float16)
    return replace(
        episode, features=np.broadcast_to(rows[:, None, None], (len(rows), 3, 3, rows.shape[1]))
    )


def test_views_pick_their_aggregates() -> None:
    episode = make_episode(1)
    step = next(episode.steps())
    view = View(flow="first_last", horizon="mean")
    expected = np.concatenate([episode.features[0, 0, 2], episode.features[0, 1, 2]])
    np.testing.assert_array_equal(view.of(step), expected)
    np.testing.assert_array_equal(view.sequence(episode)[0], expected)
    np.testing.assert_array_equal(View("state").of(step), episode.states[0])


def test_safe_mlp_sums_sigmas_and_stays_below_the_clock() -> None:
    detector = make_detector("safe_mlp")
    detector.arrays = {
        "mean": np.zeros(1, np.float32),
        "spread": np.ones(1, np.float32),
        "g.0.weight": np.array([[1.0], [-1.0]], np.float32),
        "g.0.bias": np.zeros(2, np.float32),
        "g.1.weight": np.array([[2.0, -3.0]], np.float32),
        "g.1.bias": np.array([0.5], np.float32),
    }
    episode = set_features(make_episode(1, steps=4), [[1.0], [-1.0], [2000.0], [-2000.0]])
    # g = 2 relu(x) − 3 relu(−x) + 0.5
    scores = score_episode(detector, episode)
    first = 1 / (1 + np.exp(-2.5))
    second = 1 / (1 + np.exp(2.5))
    assert scores[0] == pytest.approx(first, rel=1e-12)
    assert scores[1] == pytest.approx(first + second, rel=1e-12)
    assert np.all(scores > 0.0)
    assert np.all(np.diff(scores, prepend=0.0) > 0.0)
    assert np.all(np.diff(scores, prepend=0.0) < 1.0), "0 < s_t < t, however sure g is"


def test_the_published_loss_of_safe_mlp() -> None:
    data = Sequences.pad(
        [np.zeros((2, 1), np.float32), np.zeros((3, 1), np.float32)], np.array([1.0, 0.0])
    )
    # Weights N / (n_c + 1) are 2 / 2 each; σ = 1/2, so s = (0.5, 1) and (0.5, 1, 1.5).
    loss = cumulated_sigmoid_loss(torch.zeros(2, 3), data)
    assert float(loss) == pytest.approx(0.5 * (np.mean([0.5, 1.0]) + np.mean([0.5, 1.0, 1.5])))


def test_classes_are_weighed_by_their_size() -> None:
    data = Sequences.pad([np.zeros((1, 1), np.float32)] * 4, np.array([1.0, 0.0, 0.0, 0.0]))
    assert data.weights.tolist() == [2.0, 1.0, 1.0, 1.0]


def test_lambda_returns_by_hand() -> None:
    values = torch.tensor([[0.1, 0.2, 0.4], [0.1, 0.3, 0.9]])
    valid = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    outcomes = torch.tensor([1.0, 0.0])
    half = lambda_returns(values, valid, outcomes, 0.5)
    assert half[0].tolist() == pytest.approx([0.5 * 0.2 + 0.5 * 0.7, 0.7, 1.0])
    assert half[1, :2].tolist() == pytest.approx([0.5 * 0.3, 0.0]), "padding is not bootstrapped"
    whole = lambda_returns(values, valid, outcomes, 1.0)
    assert whole[0].tolist() == [1.0, 1.0, 1.0]
    assert lambda_returns(values, valid, outcomes, 0.0)[0].tolist() == pytest.approx(
        [0.2, 0.4, 1.0]
    )


def test_networks_are_those_of_torch() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mlp, inputs = Mlp(5, 7, 7, 2), rng.normal(size=5).astype(np.float32)
    weights = {
        f"g.{n.removeprefix('layers.')}": w.detach().numpy() for n, w in mlp.named_parameters()
    }
    expected = mlp(torch.from_numpy(inputs)).detach().numpy()
    network = Perceptron(weights, "g")
    np.testing.assert_allclose(network(inputs), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network(inputs[None])[0], expected, rtol=1e-5, atol=1e-6)
    probe = LstmProbe(5, 6)
    weights = {n.replace("layers.", "g."): w.detach().numpy() for n, w in probe.named_parameters()}
    sequence = rng.normal(size=(9, 5)).astype(np.float32)
    expected = probe(torch.from_numpy(sequence)[None]).detach().numpy()[0]
    cell = LstmCell(weights)
    read_out = Perceptron(weights, "g")
    found = [read_out(cell.step(row))[0] for row in sequence]
    cell.begin()
    assert [read_out(cell.step(row))[0] for row in sequence] == found
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert 0.0 < sigmoid(-1e9) < sigmoid(0.0) == 0.5 < sigmoid(1e9) < 1.0


def test_td_lstm_with_a_full_trace_is_safe_lstm() -> None:
    settings = {"updates": 3, "hidden": 4}
    plain = make_detector("safe_lstm", settings)
    traced = make_detector("td_lstm", {**settings, "trace": 1.0})
    other = make_detector("td_lstm", {**settings, "trace": 0.0})
    for detector in (plain, traced, other):
        detector.fit(make_episodes(8))
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(traced.arrays[name], array, atol=1e-6)
    assert not np.allclose(other.arrays["g.0.weight"], plain.arrays["g.0.weight"], atol=1e-6)


def two_points(name: str, **settings: object) -> list[float]:
    """Scores at (0, 0), where successes were, and at (3, 4), where failures were."""
    good = [[0.0, 0.0], [1e-3, 0.0], [0.0, 1e-3]]
    bad = [[3.0, 4.0], [3.0, 4.002], [2.998, 4.0]]
    detector = make_detector(name, {"accumulate": "none", **settings})
    detector.fit(
        [
            set_features(make_episode(0, steps=3), good),
            set_features(make_episode(1, "failure", steps=3, onset_step=0), bad),
        ]
    )
    probe = set_features(make_episode(2, steps=2), [[0.0, 0.0], [3.0, 4.0]])
    return score_episode(detector, probe).tolist()


def test_euclidean_to_the_nearest() -> None:
    near, far = two_points("euclidean", neighbours=3, contrast=False)
    assert near == pytest.approx(0.0, abs=2e-3)
    assert far == pytest.approx(5.0, abs=2e-3)
    near, far = two_points("euclidean", neighbours=3)
    assert (near, far) == (pytest.approx(-5.0, abs=5e-3), pytest.approx(5.0, abs=5e-3))


def test_cosine_is_one_minus_the_cosine() -> None:
    detector = make_detector("cosine", {"accumulate": "none", "neighbours": 1, "contrast": False})
    detector.fit(
        [
            set_features(make_episode(0, steps=2), [[1.0, 0.0], [5.0, 0.0]]),
            set_features(make_episode(1, "failure", steps=2, onset_step=0), [[0.0, 1.0]] * 2),
        ]
    )
    probe = set_features(make_episode(2, steps=3), [[2.0, 0.0], [1.0, 1.0], [-3.0, 0.0]])
    expected = [0.0, 1.0 - np.sqrt(0.5), 2.0]
    assert score_episode(detector, probe).tolist() == pytest.approx(expected, abs=1e-6)


def test_mahalanobis_is_in_units_of_the_spread() -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=(4000, 2)) * [1.0, 0.1]
    detector = make_detector(
        "mahalanobis", {"accumulate": "none", "contrast": False, "ridge": 1e-9}
    )
    episode = make_episode(0, steps=4000)
    detector.fit(
        [
            set_features(episode, good.tolist()),
            set_features(make_episode(1, "failure", steps=3, onset_step=0), [[9.0, 9.0]] * 3),
        ]
    )
    probe = set_features(make_episode(2, steps=2), [[2.0, 0.0], [0.0, 0.2]])
    assert score_episode(detector, probe).tolist() == pytest.approx([2.0, 2.0], rel=0.05)


def test_pca_kmeans_finds_the_centres() -> None:
    near, far = two_points("pca_kmeans", components=2, clusters=1, contrast=False)
    assert near == pytest.approx(0.0, abs=2e-3)
    assert far == pytest.approx(5.0, abs=2e-3)


def test_distances_add_up_when_summed() -> None:
    near, far = two_points("euclidean", neighbours=3, contrast=False)
    total = two_points("euclidean", neighbours=3, contrast=False, accumulate="sum")
    assert total == pytest.approx([near, near + far])
    assert two_points("euclidean", neighbours=3, accumulate="max")[1] == pytest.approx(
        5.0, abs=0.01
    )


@pytest.mark.parametrize("name", ["rnd", "logpzo"])
def test_what_was_never_seen_is_strange(name: str) -> None:
    detector = make_detector(
        name, {"updates": 60, "learning_rate": 2e-3, "hidden": 32, "contrast": False}
    )
    detector.fit(make_episodes(40))
    seen = score_episode(detector, make_episode(500))
    strange = make_episode(500)
    strange = replace(strange, features=(strange.features + np.float16(6.0)))
    assert score_episode(detector, strange).min() > 2.0 * np.median(seen)


def test_chunks_are_aligned_by_time_not_by_index() -> None:
    overlap = Overlap(make_info().start)
    first = np.tile(np.arange(16.0, dtype=np.float32)[:, None], (1, 10))
    assert overlap(0.0, first) is None
    before, after = overlap(5 * STEP_DT, first + 5.0)
    assert before.shape == (11, 10)
    np.testing.assert_array_equal(before, after)
    with pytest.raises(FailureDetectionError, match="chunks of 16 steps begin 16 steps apart"):
        overlap(5 * STEP_DT + 16 * STEP_DT, first)


def still_episode(steps: int = 3, samples: int = 0) -> Episode:
    """An episode in which nothing moves and nothing disagrees."""
    episode = make_episode(1, steps=steps, samples=samples)
    chunk = np.zeros((16, 10), np.float32)
    chunk[:, 3] = chunk[:, 7] = 1.0
    chunks = np.tile(chunk, (steps, 1, 1))
    drawn = np.tile(chunk, (steps, samples, 1, 1)) if samples else None
    return replace(episode, chunks=chunks, samples=drawn)


def test_stac_single_is_the_distance_of_common_steps() -> None:
    episode = still_episode()
    episode.chunks[2, :, 1] += 0.03
    # The second chunk disagrees with neither in x; the third is 3 cm off: 0, 0, 0.03, summed.
    assert score_episode(make_detector("stac_single"), episode).tolist() == pytest.approx(
        [0.0, 0.0, 0.03]
    )


def test_a_rotation_counts_by_its_lever() -> None:
    angle = 0.2
    turned = np.zeros((1, 10), np.float32)
    turned[0, 3:9] = [np.cos(angle), np.sin(angle), 0.0, -np.sin(angle), np.cos(angle), 0.0]
    straight = np.zeros((1, 10), np.float32)
    straight[0, [3, 7]] = 1.0
    distance = np.linalg.norm(points(turned) - points(straight))
    assert distance == pytest.approx(0.1 * angle, rel=0.01), "10 cm times the angle"


def test_sample_variance_by_hand() -> None:
    episode = still_episode(steps=2, samples=2)
    episode.samples[1, 0, :, 0] -= 0.01
    episode.samples[1, 1, :, 0] += 0.01
    scores = score_episode(make_detector("sample_variance"), episode)
    assert scores.tolist() == pytest.approx([0.0, 1e-4], rel=1e-4)


def test_cluster_entropy_counts_clusters() -> None:
    episode = still_episode(steps=2, samples=4)
    episode.samples[1, 2:, :, 0] += 0.1
    scores = score_episode(make_detector("cluster_entropy"), episode)
    assert scores.tolist() == pytest.approx([0.0, np.log(2.0)])


def test_discrepancy_by_hand() -> None:
    same = np.zeros((5, 3), np.float32)
    assert squared_discrepancy(same, same, 1.0) == 0.0
    apart = np.full((5, 3), 100.0, np.float32)
    assert squared_discrepancy(same, apart, 1.0) == pytest.approx(2.0)
    near = np.array([[1.0, 0.0, 0.0]], np.float32)
    expected = 2.0 - 2.0 * np.exp(-0.5)
    assert squared_discrepancy(same, near, 1.0) == pytest.approx(expected)


def test_stac_sees_samples_that_changed_their_mind() -> None:
    detector = make_detector("stac")
    detector.fit([make_episode(seed, samples=6) for seed in range(4)])
    calm = score_episode(detector, make_episode(50, samples=6))
    lost = score_episode(detector, make_episode(51, "failure", samples=6, onset_step=5))
    assert calm[0] == 0.0
    assert lost[-1] - lost[4] > 1.3 * (calm[-1] - calm[4])
    with pytest.raises(FailureDetectionError, match="no successful episode has several samples"):
        make_detector("stac").fit([make_episode(1)])


def test_reversals_are_counted() -> None:
    episode = still_episode(steps=2)
    zigzag = np.cumsum([0.0, 0.01, 0.01, -0.01, 0.01, 0.01, 0.01, 0.01, 0.01]).astype(np.float32)
    episode.chunks[0, :9, 0] = zigzag
    # 8 moves with 2 turns, then 8 moves of nothing.
    assert score_episode(make_detector("reversals"), episode).tolist() == [2 / 8, 2 / 16]


def test_jerk_of_a_cubic() -> None:
    episode = still_episode(steps=1)
    time = STEP_DT * np.arange(16)
    episode.chunks[0, :, 0] = 0.5 * time**3
    assert score_episode(make_detector("jerk"), episode)[0] == pytest.approx(3.0, rel=1e-2)


def test_action_probe_learns_which_measure_counts() -> None:
    detector = make_detector("action_probe")
    detector.fit(make_episodes(30))
    weights = detector.arrays["weights"]
    assert weights[0] > 0.3, "the positions of consecutive chunks disagree"
    positions = np.arange(len(weights)) % 3 == 0
    assert not np.any(weights[~positions]), "rotation and opening say nothing here"


def test_logistic_regression_recovers_its_weights() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 2))
    wanted = (rng.random(20_000) < 1 / (1 + np.exp(-(1.5 * rows[:, 0] - rows[:, 1])))).astype(float)
    found = fit_logistic(rows, wanted, np.ones(20_000), penalty=1e-6)
    np.testing.assert_allclose(found.weights, [1.5, -1.0], atol=0.08)
    bound = fit_logistic(rows, wanted, np.ones(20_000), penalty=1e-6, nonnegative=True)
    assert bound.weights[1] == 0.0
    with np.errstate(invalid="ignore"), pytest.raises(FailureDetectionError, match="no optimum"):
        fit_logistic(np.full((4, 1), np.nan), np.zeros(4), np.ones(4), penalty=1e-6)


def test_controls_say_what_they_know() -> None:
    episodes = [
        make_episode(0, task="pick", perturbation="bias", severity=0.1),
        make_episode(1, "failure", task="pick"),
        make_episode(2, "failure", task="push", perturbation="bias", severity=0.1),
        make_episode(3, "failure", task="push"),
    ]
    expected = {"task_id": (0.5, 1.0, 0.75), "perturbation_id": (1.0, 1.0, 0.5)}
    probes = [
        make_episode(9, task="pick"),
        make_episode(9, task="push"),
        make_episode(9, task="stack", perturbation="bias", severity=0.1),
    ]
    for name, rates in expected.items():
        detector = make_detector(name)
        detector.fit(episodes)
        found = tuple(score_episode(detector, probe)[0] for probe in probes)
        assert found == rates, name
    assert score_episode(make_detector("clock"), make_episode(1, steps=3)).tolist() == [1, 2, 3]
    first, again, other = (
        score_episode(make_detector("random"), make_episode(seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_what_the_severity_tells() -> None:
    """Of biases those above one half fail; the light never matters."""
    episodes = [
        make_episode(
            seed,
            "failure" if kind == "bias" and severity > 0.5 else "success",
            perturbation=kind,
            severity=severity,
        )
        for kind in ("bias", "lighting")
        for seed, severity in enumerate(np.linspace(0.0, 1.0, 20).tolist())
    ]
    detector = make_detector("severity")
    detector.fit(episodes)

    def score(kind: str, severity: float) -> float:
        return float(
            score_episode(detector, make_episode(9, perturbation=kind, severity=severity))[0]
        )

    assert score("bias", 0.9) > score("bias", 0.6) > 0.0 > score("bias", 0.4) > score("bias", 0.1)
    assert score("lighting", 0.9) < score("bias", 0.4)
    assert score("unheard of", 0.9) == 0.0


def test_the_fused_detector_weighs_no_member_negatively() -> None:
    detector = DETECTORS["fused"]()
    detector.fit(make_episodes(16))
    weights = detector.member_weights()  # type: ignore[attr-defined]
    assert weights.keys() == {"features", "chunks"}
    assert min(weights.values()) >= 0.0
    assert max(weights.values()) > 0.0


def test_the_fused_detector_trusts_what_carries_over_to_other_tasks() -> None:
    """Features show every failure, but at each task along another axis; chunks show it alike."""
    episodes = []
    for number, task in enumerate(("drawer", "pick", "push", "stack", "touch", "wipe")):
        for seed in range(20):
            outcome, onset = ("failure", 0) if seed % 2 else ("success", None)
            made = make_episode(
                100 * number + seed, outcome, shift=0.0, task=task, onset_step=onset
            )
            features = made.features.copy()
            features[..., number] += 3.0 * (seed % 2)
            episodes.append(replace(made, features=features))
    detector = DETECTORS["fused"]()
    detector.fit(episodes)
    weights = detector.member_weights()  # type: ignore[attr-defined]
    assert weights["chunks"] > 10.0 * weights["features"]
    # The positive control: in scenes of the same tasks the features would have looked as good.
    alone = FeatureProbe()
    alone.fit(episodes)
    last = np.array([score_episode(alone, episode)[-1] for episode in episodes])
    assert roc_auc(last, np.array([not e.info.success for e in episodes])) > 0.9


def test_a_feature_probe_is_the_regression_that_was_fitted() -> None:
    """What is kept as one vector is linear in the mean so far, whatever the features' scale."""
    episodes = make_episodes(24)
    probe = FeatureProbe(flow="mean", components=3)
    probe.fit(episodes)
    scores = score_episode(probe, episodes[1])
    vectors = episodes[1].features[:, 2, 2].astype(np.float64)
    means = np.cumsum(vectors, axis=0) / np.arange(1, 11)[:, None]
    expected = means @ probe.arrays["weights"] + probe.arrays["bias"]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    # Of six components three were left out: along these nothing counts.
    every = np.concatenate([e.features[:, 2, 2].astype(float) for e in episodes])
    axes = np.linalg.eigh(np.cov(every.T))[1][:, :3]
    assert np.abs(probe.arrays["weights"] @ axes).max() < 1e-3
    assert np.abs(probe.arrays["weights"]).max() > 0.01
