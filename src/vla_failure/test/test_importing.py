# SPDX-License-Identifier: Apache-2.0
"""Small files of the layouts that SAFE's recording forks of OpenVLA and openpi write."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_failure import FailureDetectionError, Outcome
from vla_failure.detectors import score_episode
from vla_failure.detectors.saving import make_detector
from vla_failure.importing.libero import chunk_of_actions
from vla_failure.importing.restricted import read_record
from vla_failure.importing.writing import import_rollouts
from vla_failure.report.candidates import candidates
from vla_failure.store import read_manifest, read_rollouts

WIDTH = 8


def dump(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(values))


def write_openpi(root: Path, episodes: int = 4, samples: int = 1) -> Path:
    """Two tasks in turn; every other episode fails. Replans every 5 of 10 steps."""
    rng = np.random.default_rng(0)
    count = 0
    for number in range(episodes):
        task, episode, success = number % 2, number // 2, number % 4 in (0, 3)
        inferences = 6 if success else 12
        done = [False] * (5 * inferences)
        done[-3] = success  # the last steps come after the success
        for index in range(inferences):
            step = 10 + 5 * index
            name = f"step_{count}--note--task_{task}--ep_{episode}--t_{step}--meta.pkl"
            state = np.concatenate([[0.5, 0.0, 0.3], [np.pi, 0.0, 0.0], [0.04, -0.04]])
            values = {
                "observation/state": state + 0.001 * index,
                "prompt": "open the drawer",
                "run/task_id": task,
                "state": rng.normal(size=32).astype(np.float32),
                "actions": rng.uniform(-1.0, 1.0, (samples, 10, 7)),
                "pre_velocity": rng.normal(size=(3, 10, WIDTH)).astype(np.float32) + number,
            }
            if samples == 1:
                values["actions"] = values["actions"][0]
            dump(root / "policy_records" / name, values)
            count += 1
        record = {
            "task_suite_name": "libero_goal",
            "task_id": task,
            "task_description": "open the drawer",
            "episode_idx": episode,
            "episode_success": np.bool_(success),
            "mp4_path": "x.mp4",
            "model_infer_times": inferences,
            "replan_steps": 5,
            "num_steps_wait": 10,
            "end_step": 10 + 5 * inferences,
            "step_done": done,
        }
        dump(root / "env_records" / f"task{task}--ep{episode}--succ{int(success)}.pkl", record)
    return root


def write_openvla(root: Path, episodes: int = 4) -> Path:
    """One action per step."""
    rng = np.random.default_rng(1)
    axes = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    for number in range(episodes):
        task, episode, success = number % 2, number // 2, number % 4 in (0, 3)
        steps = 12 if success else 20
        stem = root / f"task{task}--ep{episode}--succ{int(success)}"
        record = {
            "hidden_states": torch.from_numpy(rng.normal(size=(steps, 7, WIDTH))).bfloat16(),
            "task_suite_name": "libero_10",
            "task_id": task,
            "task_description": "put both in the basket",
            "eposide_idx": episode,
            "episode_success": success,
            "mp4_path": "x.mp4",
        }
        dump(stem.with_suffix(".pkl"), record)
        with stem.with_suffix(".csv").open("w", newline="") as file:
            names = ["action/timestep", *(f"action/d{axis}" for axis in axes)]
            table = csv.writer(file)
            table.writerow([*names, "pose/cum_pos", "pose/cum_rot"])
            for step in range(steps):
                action = rng.uniform(-1.0, 1.0, 7)
                table.writerow([10 + step, *action, 0.01 * step, 0.02 * step])
    return root


def test_openpi_becomes_episodes(tmp_path: Path) -> None:
    source = write_openpi(tmp_path / "pi0", samples=3)
    figures = import_rollouts("openpi", source, tmp_path / "out")["figures"]
    assert figures == {"episodes_count": 4, "failure_count": 2, "success_count": 2}
    episodes = read_rollouts(tmp_path / "out")
    good = next(e for e in episodes if e.info.success and e.info.task == "libero_goal-0")
    assert good.info.success_time == pytest.approx((5 * 6 - 2) * 0.05)
    assert good.times == pytest.approx(0.25 * np.arange(6))
    assert (good.info.time_limit, good.info.execute_steps, good.info.seed) == (15.0, 5, 0)
    assert good.samples is not None
    assert good.samples.shape == (6, 3, 10, 10)
    np.testing.assert_array_equal(good.samples[:, 0], good.chunks)
    record = read_record(source / "policy_records" / "step_0--note--task_0--ep_0--t_10--meta.pkl")
    np.testing.assert_array_equal(
        good.features[0, 2, 2], record["pre_velocity"].mean(axis=(0, 1)).astype(np.float16)
    )
    np.testing.assert_allclose(good.states[0], record["observation/state"], rtol=1e-6)
    bad = next(e for e in episodes if not e.info.success)
    assert bad.info.outcome is Outcome.FAILURE
    assert bad.onset_time == bad.info.time_limit, "nobody knows when it was lost"
    binding = read_manifest(tmp_path / "out")["binding"]
    assert binding["feature_shape"] == [3, 10, WIDTH]
    assert binding["feature_name"] == "pre_velocity"


def test_openvla_becomes_episodes(tmp_path: Path) -> None:
    source = write_openvla(tmp_path / "openvla")
    import_rollouts("openvla", source, tmp_path / "out")
    episodes = read_rollouts(tmp_path / "out")
    good = next(e for e in episodes if e.info.success)
    assert (len(good), good.info.success_time, good.info.execute_steps) == (12, 12 * 0.05, 1)
    path = source / "task0--ep0--succ1.pkl"
    hidden = read_record(path)["hidden_states"]
    assert (hidden.shape, hidden.dtype) == ((12, 7, WIDTH), np.float32)
    first = next(e for e in episodes if e.info.task == "libero_10-0" and e.info.seed == 0)
    np.testing.assert_array_equal(first.features[3, 0, 1], hidden[3, -1].astype(np.float16))
    np.testing.assert_allclose(first.states[3], [0.03, 0.06], rtol=1e-6)
    # One action per inference: what compares chunks is left out, and the rest scores.
    offered = candidates(episodes)
    assert "action_probe" not in offered
    assert "stac" not in offered
    assert all(settings["chunks"] is False for settings in offered["fused"])
    detector = make_detector("fused", {"components": 4, "chunks": False})
    detector.fit(episodes)
    assert np.isfinite(score_episode(detector, good)).all()


def test_actions_lead_where_the_controller_takes_them() -> None:
    actions = np.zeros((3, 7))
    actions[:, 0], actions[:, 5], actions[:, 6] = 1.0, -0.5, (-1.0, 0.0, 1.0)
    start = Rotation.from_rotvec([np.pi, 0.0, 0.0])
    chunk = chunk_of_actions(actions, np.array([0.4, 0.0, 0.2]), start)
    np.testing.assert_allclose(chunk[:, 0], [0.45, 0.5, 0.55], atol=1e-6)
    np.testing.assert_allclose(chunk[:, 9], [0.08, 0.04, 0.0], atol=1e-6)
    turned = (Rotation.from_rotvec([0.0, 0.0, -0.75]) * start).as_matrix()
    np.testing.assert_allclose(chunk[2, 3:9], turned[:, :2].T.ravel(), atol=1e-6)


class Evil:
    """Writes a file as soon as it is read by an ordinary reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_does_not_choose_what_is_called(tmp_path: Path) -> None:
    bait, trap = tmp_path / "task0--ep0--succ1.pkl", tmp_path / "called"
    dump(bait, {"hidden_states": Evil(trap)})
    with pytest.raises(FailureDetectionError, match="is nothing that is read here"):
        read_record(bait)
    assert not trap.exists()
    pickle.loads(bait.read_bytes())  # noqa: S301 (the positive control)
    assert trap.exists()


def test_a_storage_does_not_either(tmp_path: Path) -> None:
    """Tensors hold a nested file, which is read as strictly."""
    bait, trap, inner = tmp_path / "bait.pkl", tmp_path / "called", tmp_path / "inner.pt"
    torch.save(Evil(trap), inner)
    data = inner.read_bytes()

    class Nested:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return torch.storage._load_from_bytes, (data,)

    dump(bait, {"hidden_states": Nested()})
    with pytest.raises(FailureDetectionError, match="cannot be read"):
        read_record(bait)
    assert not trap.exists()
    pickle.loads(bait.read_bytes())  # noqa: S301 (the positive control)
    assert trap.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "holds a list"),
        ({"a": np.array([{}], object)}, "array of objects"),
        ({"a": Outcome.SUCCESS}, "Outcome is nothing that is read here"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, values: object, message: str) -> None:
    dump(tmp_path / "x.pkl", values)
    with pytest.raises(FailureDetectionError, match=message):
        read_record(tmp_path / "x.pkl")
    whole = (tmp_path / "x.pkl").read_bytes()
    (tmp_path / "x.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FailureDetectionError, match=r"cannot be read|nothing that is read"):
        read_record(tmp_path / "x.pkl")


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    source = write_openpi(tmp_path / "pi0")
    record = source / "policy_records" / "step_0--note--task_0--ep_0--t_10--meta.pkl"
    twice = record.with_name(record.name.replace("step_0", "step_99"))
    twice.write_bytes(record.read_bytes())
    with pytest.raises(FailureDetectionError, match="are of the same inference"):
        import_rollouts("openpi", source, tmp_path / "a")
    twice.unlink()
    record.unlink()
    with pytest.raises(FailureDetectionError, match="had 6 inferences; there are records of 5"):
        import_rollouts("openpi", source, tmp_path / "b")
    openvla = write_openvla(tmp_path / "openvla")
    table = openvla / "task0--ep0--succ1.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(FailureDetectionError, match="11 rows for 12 inferences"):
        import_rollouts("openvla", openvla, tmp_path / "c")
    table.unlink()
    with pytest.raises(FailureDetectionError, match=r"succ1\.csv cannot be read"):
        import_rollouts("openvla", openvla, tmp_path / "d")
    with pytest.raises(FailureDetectionError, match="no episodes in"):
        import_rollouts("openpi", tmp_path / "nowhere", tmp_path / "e")
    with pytest.raises(FailureDetectionError, match="is not empty"):
        import_rollouts("openpi", source, source)
    with pytest.raises(FailureDetectionError, match="valid: openvla, openpi"):
        import_rollouts("octo", source, tmp_path / "f")
