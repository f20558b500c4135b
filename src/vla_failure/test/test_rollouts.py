# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_rollouts import make_episode

from vla_failure import FailureDetectionError, Outcome, store
from vla_failure.binding import Binding
from vla_failure.episodes import aggregate_features
from vla_failure.rollouts import collecting
from vla_failure.rollouts.collecting import RolloutConfig, collect_rollouts, missing_shards
from vla_failure.rollouts.onset import find_onset, first_lost
from vla_failure.rollouts.perturbations import PERTURBATIONS, Perturbation
from vla_failure.rollouts.recording import record_episode
from vla_policy import default_checkpoint, load_policy
from vla_policy.evaluation import rollout
from vla_policy.evaluation.evaluate import LOCKSTEP_OVERRIDES
from vla_policy.interface import Policy
from vla_sim import seeds, tasks
from vla_sim.simulation import Simulation

SEEDS = seeds.range_of("rollouts")
CALM = Perturbation("none", 0.0, SEEDS[0])


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


@pytest.fixture(scope="module")
def sim(policy: Policy) -> Iterator[Simulation]:
    made = Simulation(
        "panda",
        "touch",
        SEEDS[0],
        cameras=policy.spec.cameras,
        image_size=policy.spec.image_size,
        controller_overrides=LOCKSTEP_OVERRIDES,
    )
    yield made
    made.close()


def test_an_episode_is_recorded_as_it_happened(policy: Policy, sim: Simulation) -> None:
    sim.reset("touch", SEEDS[0], suite="basic")
    plain = rollout.run_episode(policy, sim, time_limit_s=rollout.TIME_LIMITS["touch"])
    sim.reset("touch", SEEDS[0], suite="basic")
    episode = record_episode(policy, sim, CALM, samples=3)
    assert plain.success
    assert episode.info.outcome is Outcome.SUCCESS
    assert episode.info.success_time == plain.time_s, "watching changes nothing"
    assert len(episode) == plain.inferences
    assert episode.features.shape == (len(episode), 3, 3, 320)
    assert episode.features.dtype == np.float16
    np.testing.assert_allclose(episode.times, 0.4 * np.arange(len(episode)), atol=1e-9)
    assert episode.samples is not None
    np.testing.assert_array_equal(episode.samples[:, 0], episode.chunks)
    spread = np.ptp(episode.samples[..., 0, :3], axis=1)
    assert np.all(spread.max(axis=1) > 0.0), "samples differ"
    np.testing.assert_allclose(np.linalg.norm(episode.chunks[..., 3:6], axis=-1), 1.0, atol=1e-5)
    assert (episode.info.seed, episode.info.policy_id) == (SEEDS[0], policy.spec.policy_id)


def test_the_onset_is_when_the_cube_was_taken_away(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tasks.get("touch")), "time_limit", 4.0)
    sim.reset("touch", SEEDS[1], suite="basic")
    snapshots = []
    for step in range(5):
        if step == 3:  # out of reach
            sim.displace(sim.instance.target, np.array([2.0, 0.0, 0.0]))
        snapshots.append(sim.snapshot())
        sim.advance(0.1)
    assert find_onset(sim, snapshots) == 3
    assert find_onset(sim, snapshots[:3]) is None, "what can be saved is not lost"


def test_what_the_expert_could_save_is_a_timeout(
    policy: Policy, sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rollout.TIME_LIMITS, "touch", 0.8)
    sim.reset("touch", SEEDS[0], suite="basic")
    episode = record_episode(policy, sim, CALM)
    assert episode.info.outcome is Outcome.TIMEOUT
    assert (episode.info.onset_step, episode.info.success_time) == (None, None)
    assert episode.samples is None


@pytest.mark.parametrize("onset", range(9))
@pytest.mark.parametrize("first", range(9))
def test_bisection_needs_all_trials_to_fail(onset: int, first: int) -> None:
    asked = Counter[tuple[int, int]]()

    def succeeds(index: int, trial: int) -> bool:
        asked[index, trial] += 1
        return index < (first if trial == 0 else onset)

    assert first_lost(9, 3, succeeds) == max(onset, first)
    assert max(asked.values()) == 1, "no trial is run twice"
    assert first_lost(9, 3, lambda index, trial: trial == 2) is None


def test_severity_and_kind_do_not_depend_on_the_task() -> None:
    drawn = [Perturbation.draw(PERTURBATIONS, seed) for seed in SEEDS[:3000]]
    assert drawn == [Perturbation.draw(PERTURBATIONS, seed) for seed in SEEDS[:3000]]
    counts = Counter(perturbation.kind for perturbation in drawn)
    assert counts.keys() == set(PERTURBATIONS)
    assert min(counts.values()) > 400
    for kind in PERTURBATIONS[1:]:
        severities = [p.severity for p in drawn if p.kind == kind]
        assert np.quantile(severities, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.07)
    assert {p.severity for p in drawn if p.kind == "none"} == {0.0}
    with pytest.raises(
        FailureDetectionError, match=r"unknown perturbations \['wind'\]; valid: none"
    ):
        Perturbation.draw(("none", "wind"), 0)


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_a_perturbation_changes_one_thing_and_more_of_it_with_severity(
    kind: str, policy: Policy, sim: Simulation
) -> None:
    def changes(severity: float) -> dict[str, float]:
        perturbation = Perturbation(kind, severity, 5)
        sim.reset("touch", SEEDS[2], suite="basic")
        before = sim.observe()
        sim.reset_to(perturbation.scene(sim.instance))
        cover = perturbation.observation_filter() or (lambda seen: seen)
        after = cover(sim.observe())
        chunk = policy.act(policy.encode(before), rollout.RobotState.of(before))
        shift = perturbation.chunk_filter() or (lambda given: given)
        moved = shift(chunk).poses_tool_in_base - chunk.poses_tool_in_base
        pixels = np.abs(after.images["scene"].astype(int) - before.images["scene"]).mean()
        assert np.abs(moved[:, 2]).max() < 1e-9, "never towards the table"
        assert np.array_equal(before.q, after.q)
        return {"pixels": float(pixels), "chunk": float(np.abs(moved).max())}

    none, little, much = changes(0.0), changes(0.3), changes(1.0)
    assert none == {"pixels": 0.0, "chunk": 0.0}
    for name in none:
        touched = {"none": "", "bias": "chunk", "jitter": "chunk"}.get(kind, "pixels")
        if name == touched:
            assert 0.0 < little[name] < much[name]
        else:
            assert little[name] == much[name] == 0.0


def test_rollouts_go_on_where_they_were_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rollout.TIME_LIMITS, "touch", 0.8)
    config = RolloutConfig(
        default_checkpoint(), tmp_path, suite="touch", episodes=3, shard=2, sampled=1, samples=2,
        workers=1,
    )  # fmt: skip

    def stop(report: collecting.ShardReport) -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            collect_rollouts(config, stop)
        assert [shard.name for shard in missing_shards(config)] == [f"touch-{SEEDS[2]}-1"]
        others = missing_shards(replace(config, tasks=("touch", "knob")))
        assert [shard.task for shard in others] == ["touch", "knob", "knob"]
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        made = []
        result = collect_rollouts(config, lambda report: made.append(report.name))
        assert made == [f"touch-{SEEDS[2]}-1"]
        assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
        again = collect_rollouts(config)
    finally:
        torch.use_deterministic_algorithms(False)
    assert result["figures"]["episodes_count"] == again["figures"]["episodes_count"] == 3
    assert "core_seconds_per_episode_s" not in again["figures"], "nothing was run"
    episodes = store.read_rollouts(tmp_path)
    assert {e.info.seed: e.samples is not None for e in episodes} == {
        SEEDS[0]: True, SEEDS[1]: False, SEEDS[2]: False
    }  # fmt: skip
    with pytest.raises(FailureDetectionError, match="samples is 2, not 5"):
        collect_rollouts(replace(config, samples=5))
    with pytest.raises(FailureDetectionError, match="seeds is"):
        collect_rollouts(replace(config, episodes=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "hard"}, "basic"),
        ({"tasks": ("pick", "juggle")}, "juggle.*wipe"),
        ({"episodes": 0}, "episodes is 0; valid: 1 or more"),
        ({"perturbations": ()}, "none, lighting"),
    ],
)
def test_invalid_settings_name_the_valid_ones(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutConfig(default_checkpoint(), tmp_path, **change)  # type: ignore[arg-type]


def test_any_change_of_what_runs_changes_the_calibration_id(policy: Policy) -> None:
    calibrated = Binding.of(policy.spec)
    assert Binding.from_dict(calibrated.to_dict()) == calibrated
    assert calibrated.mismatches(Binding.of(policy.spec)) == []
    others = [
        replace(calibrated, policy_id="other"),
        replace(calibrated, sampler="rtc"),
        replace(calibrated, feature_shape=(10, 16, 320)),
        Binding.of(policy.spec, schedule="rtc"),
        Binding.of(policy.spec, latency_s=0.2),
        replace(calibrated, cameras=("scene",)),
    ]
    assert len({b.calibration_id for b in (calibrated, *others)}) == 7
    assert all(len(calibrated.mismatches(other)) == 1 for other in others)
    assert calibrated.mismatches(others[4]) == ["latency_s is 0.2, calibrated was 0.1"]
    with pytest.raises(FailureDetectionError, match="sampler"):
        Binding.from_dict({k: v for k, v in calibrated.to_dict().items() if k != "sampler"})


def test_features_that_do_not_fit_half_precision_are_refused() -> None:
    episode = make_episode(0)
    large = np.tile(aggregate_features(np.full((5, 16, 6), 1e6, np.float32)), (10, 1, 1, 1))
    with pytest.raises(FailureDetectionError, match="features is not finite"):
        replace(episode, features=large.astype(np.float16))


def test_a_running_detector_sees_the_numbers_that_are_kept() -> None:
    raw = np.random.default_rng(0).normal(size=(10, 5, 16, 6)).astype(np.float32)
    online = np.stack([aggregate_features(inference) for inference in raw])
    assert not np.array_equal(online[:, 0, 0], raw[:, 0, 0]), "rounded, the positive control"
    kept = replace(make_episode(0), features=online.astype(np.float16))
    for step, seen in zip(kept.steps(), online, strict=True):
        np.testing.assert_array_equal(step.features, seen)
