# SPDX-License-Identifier: Apache-2.0
"""Where the policy meets the simulator: demonstrations in, episodes out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_policy import RobotState, load_policy, read_manifest
from vla_policy.actions.spec import NANO_PI0_ACTION
from vla_policy.checkpoint import default_checkpoint, load_flow_policy
from vla_policy.control import to_control_chunk
from vla_policy.evaluation import rollout
from vla_policy.evaluation.causality import (
    chosen_object,
    colour_pair,
    seen_move_changes_the_chunk,
    unseen_move_changes_nothing,
)
from vla_policy.evaluation.evaluate import EvaluationConfig, _episode, evaluate, evaluate_pairs
from vla_policy.evaluation.rollout import black_images, run_episode
from vla_policy.schedules import SCHEDULES
from vla_policy.tokenizer import InstructionTokenizer
from vla_policy.training import kinematic_demonstrations
from vla_policy.training.demonstrations import (
    DemonstrationSet,
    all_instructions,
    load_demonstrations,
)
from vla_policy.training.kinematic_demonstrations import collect_kinematic
from vla_policy.training.recipe import train
from vla_policy.training.trainer import TrainConfig
from vla_sim import samples, scene
from vla_sim.seeds import SeedError
from vla_sim.simulation import Simulation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kinematic")
    # Seed 32 falls into the validation split.
    collect_kinematic("place", "panda", [31, 32, 33], path, samples_per_episode=4, processes=1)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def demonstrations(folder: Path, cache: Path) -> DemonstrationSet:
    return load_demonstrations([folder], cache, processes=1)


def test_labels_decode_to_the_commanded_poses(
    folder: Path, demonstrations: DemonstrationSet
) -> None:
    rows = samples.load(folder)
    data = demonstrations.data
    actions = data.statistics.restore_actions(data.actions.double().numpy())
    for row, action in zip(rows, actions, strict=True):
        poses, gripper = NANO_PI0_ACTION.decode(row.pose_tool_in_base, action)
        np.testing.assert_allclose(poses, row.chunk_poses, atol=2e-5)
        np.testing.assert_allclose(gripper, row.chunk_gripper, atol=1e-5)


def test_images_are_those_of_the_states(folder: Path, demonstrations: DemonstrationSet) -> None:
    rows = samples.load(folder)
    rendered = samples.render_samples(rows[:2], processes=1)
    np.testing.assert_array_equal(demonstrations.data.read_images(np.array([0, 1])), rendered)
    assert rendered.std() > 5.0


def test_images_are_rendered_once(
    folder: Path, cache: Path, demonstrations: DemonstrationSet
) -> None:
    reports: list[Any] = []
    load_demonstrations([folder], cache, processes=1, report=lambda *entry: reports.append(entry))
    assert reports == []
    assert len(demonstrations.data.images) == 12


def test_auxiliary_positions_are_in_their_frames(
    folder: Path, demonstrations: DemonstrationSet
) -> None:
    row = samples.load(folder)[5]
    target = demonstrations.data.positions[5].double().numpy() * 0.1
    named = np.append(row.target_position, 1.0)
    np.testing.assert_allclose(
        target[:3], (np.linalg.inv(row.pose_tool_in_base) @ named)[:3], atol=1e-5
    )
    np.testing.assert_allclose(target[3:6] + np.array([0.5, 0.0, 0.0]), named[:3], atol=1e-5)
    assert demonstrations.data.positions_valid[5, :9].all()
    colors = list(scene.COLORS)
    names = demonstrations.data.position_names
    assert names[6:] == tuple(f"{c}_in_tool" for c in colors)
    first = 3 * names.index(f"{row.target}_in_tool")
    np.testing.assert_allclose(target[first : first + 3], target[:3], atol=1e-6)


def test_whole_episodes_are_held_out(demonstrations: DemonstrationSet) -> None:
    assert demonstrations.data.validation.tolist() == [4, 5, 6, 7]
    assert demonstrations.manifest["validation_seeds"] == [32]
    assert demonstrations.manifest["demonstrations"][0]["seeds"] == [31, 32, 33]


def test_every_instruction_has_only_known_words() -> None:
    tokenizer = InstructionTokenizer.build(all_instructions())
    assert len(all_instructions()) >= 4 * 4 * 3
    assert {word for text in all_instructions() for word in tokenizer.unknown_words(text)} == set()


def test_kinematic_seeds_come_from_the_demonstrations(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match="demonstrations"):
        collect_kinematic("pick", "panda", [4_000_000], tmp_path, processes=1)


@pytest.mark.parametrize("task", ["touch", "stack", "drawer", "button"])
def test_kinematic_samples_are_poses_that_the_arm_takes(tmp_path: Path, task: str) -> None:
    collect_kinematic(
        task, "panda", [500_000, 500_001], tmp_path, suite="core", astray=0.6, processes=1
    )
    rows = samples.load(tmp_path)
    assert len(rows) == 12
    assert {row.suite for row in rows} == {"core"}
    for row in rows:
        assert row.pose_tool_in_base[2, 2] < -0.95
        assert np.abs(row.chunk_poses[0] - row.pose_tool_in_base).max() < 0.1


def test_what_is_out_of_reach_gives_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, far = tmp_path / "whole", tmp_path / "far"
    collect_kinematic("touch", "panda", [500_000], whole, processes=1)
    start = kinematic_demonstrations._start

    def out_of_reach(*arguments: Any) -> Any:
        world = start(*arguments)
        world.position[0] += 0.6
        return world

    monkeypatch.setattr(kinematic_demonstrations, "_start", out_of_reach)
    collect_kinematic("touch", "panda", [500_000], far, processes=1)
    assert 0 < len(samples.load(far)) < len(samples.load(whole))


def test_training_gives_a_policy_that_loads(folder: Path, tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = []
    config = TrainConfig(samples=4, batch_size=2, copies=2, compile=False, threads=1)
    result = train(
        [folder], tmp_path, config, device="cpu", kinematic_scenes=1, report=entries.append
    )
    assert result["event"] == "finished"
    policy = load_policy(result["checkpoint"])
    assert policy.spec.policy_id == result["policy_id"]
    assert policy.spec.robot == "panda"
    assert len(policy.spec.joint_names) == 7
    assert entries[-1]["samples"] == 4
    used = read_manifest(Path(result["checkpoint"]))["demonstrations"]
    assert [len(entry["seeds"]) for entry in used] == [3, 1, 1, 1]
    sizes = [file.stat().st_size for file in Path(result["checkpoint"]).iterdir()]
    assert sum(sizes) < 14e6


def test_a_policy_goes_on_learning_with_its_own_statistics(folder: Path, tmp_path: Path) -> None:
    base = default_checkpoint()
    config = TrainConfig(samples=2, batch_size=2, lr=0.0, muon_lr=0.0, compile=False, threads=1)
    result = train([folder], tmp_path, config, base=base, device="cpu")
    before, after = load_flow_policy(base), load_flow_policy(Path(result["checkpoint"]))
    assert after.statistics.to_dict() == before.statistics.to_dict()
    weights = after.network.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in before.network.state_dict().items())
    assert after.tokenizer.unknown_words("wipe the puck") == []
    past, manifest = read_manifest(base), read_manifest(Path(result["checkpoint"]))
    assert manifest["demonstrations"][:-1] == past["demonstrations"]
    assert manifest["selection_seeds"] == past["selection_seeds"] != []


def test_a_chunk_reaches_the_controller(checkpoint: Path, sim: Simulation) -> None:
    policy = load_policy(checkpoint)
    sim.reset("pick", 1_000_000)
    observation = sim.observe()
    random = policy.act(policy.encode(observation), RobotState.of(observation))
    # The weights are random: keep the chunk but stand still.
    chunk = replace(random, commanded=np.tile(observation.pose_tool_in_base, (16, 1, 1)))
    converted = to_control_chunk(chunk, sim.robot.base_frame, sim.robot.tool_frame)
    assert converted.stamp_ns == observation.stamp_ns
    np.testing.assert_allclose(np.asarray(converted.poses), chunk.poses_tool_in_base, atol=1e-9)
    assert sim.push_chunk(converted).name == "NONE"
    wrong = to_control_chunk(chunk, "nowhere", sim.robot.tool_frame)
    assert sim.push_chunk(wrong).name != "NONE"


def test_nothing_privileged_is_read(checkpoint: Path, sim: Simulation) -> None:
    policy = load_policy(checkpoint)
    sim.reset("pick", 1_000_001)
    assert unseen_move_changes_nothing(policy, sim)
    sim.reset("pick", 1_000_001)
    assert seen_move_changes_the_chunk(policy, sim)


def test_black_images_are_black(sim: Simulation) -> None:
    dark = black_images(sim.observe())
    assert all(image.max() == 0 for image in dark.images.values())
    assert sim.observe().images["scene"].max() > 0


def test_colour_pairs_name_two_cubes_of_one_scene(
    checkpoint: Path, sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rollout.TIME_LIMITS, "pick", 0.8)
    sim.reset("pick", 1_000_002)
    pair = colour_pair(load_policy(checkpoint), sim)
    assert pair is not None
    assert pair.first.named_object != pair.second.named_object
    assert pair.first.instruction != pair.second.instruction
    assert pair.chosen == (chosen_object(pair.first), chosen_object(pair.second))
    sim.reset("drawer", 1_000_002)
    assert colour_pair(load_policy(checkpoint), sim) is None


def test_pairs_leave_out_scenes_with_nothing_else_to_name(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rollout.TIME_LIMITS, "touch", 0.4)
    suites = {"two": ("touch", "drawer"), "drawers": ("drawer",)}
    monkeypatch.setattr("vla_policy.evaluation.evaluate.SUITES", suites)
    try:
        found = evaluate_pairs(EvaluationConfig(checkpoint, suite="two", episodes=1, workers=1))
        assert [pair["episodes"][0]["task"] for pair in found["pairs"]] == ["touch"]
        assert found["figures"]["skipped_count"] == 1
        with pytest.raises(ValueError, match="anything else"):
            evaluate_pairs(EvaluationConfig(checkpoint, suite="drawers", episodes=1, workers=1))
    finally:
        torch.use_deterministic_algorithms(False)


def _noting(run: Callable[[Any], Any], seeds: list[int]) -> Callable[[Any], Any]:
    def episode(job: tuple[str, int]) -> Any:
        seeds.append(job[1])
        return run(job)

    return episode


def test_an_evaluation_repeats_itself_and_goes_on(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(rollout.TIME_LIMITS, "pick", 1.6)
    monkeypatch.setitem(rollout.TIME_LIMITS, "touch", 1.2)
    monkeypatch.setattr("vla_policy.evaluation.evaluate.SUITES", {"two": ("pick", "touch")})
    config = EvaluationConfig(checkpoint, suite="two", episodes=2, workers=1)
    try:
        first = evaluate(config)
        evaluate(replace(config, episodes=1), folder=tmp_path)
        ran: list[int] = []
        monkeypatch.setattr("vla_policy.evaluation.evaluate._episode", _noting(_episode, ran))
        second = evaluate(config, folder=tmp_path)
        with pytest.raises(ValueError, match="images: there 'none', now 'black'"):
            evaluate(replace(config, images="black"), folder=tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)
    assert ran == [4_000_001] * 2, "the others are kept"
    assert first["episodes"] == second["episodes"]
    assert len(first["episodes"]) == 4
    assert len({episode["digest"] for episode in first["episodes"]}) == 4
    assert {"success_rate", "success_rate_min_task", "success_rate_pick", "lift_rate"} <= (
        first["figures"].keys()
    )
    assert first["settings"]["latency_s"] == 0.1


def test_an_evaluation_does_not_depend_on_workers_or_load(checkpoint: Path) -> None:
    alone = evaluate(EvaluationConfig(checkpoint, suite="touch", episodes=2, workers=1))
    torch.use_deterministic_algorithms(False)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        crowded = evaluate(EvaluationConfig(checkpoint, suite="touch", episodes=2, workers=2))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert crowded["episodes"] == alone["episodes"]


def test_a_chunk_must_outlast_the_latency(checkpoint: Path, sim: Simulation) -> None:
    policy = load_policy(checkpoint)
    sim.reset("pick", 1_000_000)
    with pytest.raises(ValueError, match="a delay of 9 steps is too long for chunks of 16"):
        run_episode(policy, sim, time_limit_s=1.0, delay_steps=9)
    # Eight steps of delay and eight until the next chunk are the whole of one.
    assert run_episode(policy, sim, time_limit_s=1.2, delay_steps=8).inferences == 3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_moves_the_arm(schedule: str, sim: Simulation) -> None:
    policy = load_policy()
    sim.reset("place", 1_000_003)
    start = sim.observe_pose()
    result = run_episode(policy, sim, time_limit_s=2.4, schedule=schedule, delay_steps=4)
    assert result.rejected == 0
    assert result.inferences == (4 if schedule == "synchronous" else 6)
    assert np.linalg.norm(sim.observe_pose()[:3, 3] - start[:3, 3]) > 0.05
