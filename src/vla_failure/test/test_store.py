# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_rollouts import make_episode, make_info
from safetensors.numpy import load_file, save_file

from vla_failure import FailureDetectionError, Outcome, store
from vla_failure.episodes import Episode, aggregate_features, chunk_array


def same(one: Episode, other: Episode) -> bool:
    if one.info != other.info or one.arrays().keys() != other.arrays().keys():
        return False
    pairs = zip(one.arrays().values(), other.arrays().values(), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def write(folder: Path) -> dict[str, Episode]:
    episodes = [
        make_episode(0, samples=3),
        make_episode(1, "failure", steps=4, onset_step=2),
        make_episode(2, "timeout", steps=7),
        make_episode(3, "failure", onset_step=10),
    ]
    store.write_shard(folder, "a", episodes[:2])
    store.write_shard(folder, "b", episodes[2:])
    return {episode.info.episode_id: episode for episode in episodes}


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    written = write(tmp_path)
    found = store.read_rollouts(tmp_path)
    assert len(found) == 4
    assert all(same(episode, written[episode.info.episode_id]) for episode in found)
    assert {info.episode_id for info in store.read_table(tmp_path)} == written.keys()
    assert found[0].end_time == 4.0
    assert [e.onset_time for e in found] == [None, 0.8, None, 8.0]
    with pytest.raises(FailureDetectionError, match="p-0 is there twice"):
        store.read_rollouts(tmp_path, tmp_path)


def test_tensors_are_joined_by_id_and_not_by_order(tmp_path: Path) -> None:
    written = write(tmp_path)
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.take([1, 0]), tmp_path / "a.parquet")
    found = {episode.info.episode_id: episode for episode in store.read_rollouts(tmp_path)}
    assert all(same(episode, written[name]) for name, episode in found.items())


def test_what_is_missing_or_too_much_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "a.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "p-1/chunks"}, path)
    with pytest.raises(FailureDetectionError, match="p-1 lacks chunks"):
        store.read_rollouts(tmp_path)
    save_file({**tensors, "p-9/chunks": tensors["p-1/chunks"]}, path)
    with pytest.raises(FailureDetectionError, match="holds p-9/chunks"):
        store.read_rollouts(tmp_path)
    save_file({k: (v[:2] if k.startswith("p-1/") else v) for k, v in tensors.items()}, path)
    with pytest.raises(FailureDetectionError, match=r"p-1 has 2 steps and 0 samples; .* 4 and 0"):
        store.read_rollouts(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FailureDetectionError, match=r"a\.safetensors cannot be read"):
        store.read_rollouts(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(FailureDetectionError, match=r"a\.parquet cannot be read"):
        store.read_rollouts(tmp_path)


def test_a_shard_is_there_when_its_table_is(tmp_path: Path) -> None:
    write(tmp_path)
    assert store.has_shard(tmp_path, "a")
    (tmp_path / "a.parquet").unlink()
    assert not store.has_shard(tmp_path, "a")
    assert len(store.read_rollouts(tmp_path)) == 2
    with pytest.raises(FailureDetectionError, match="no rollouts in"):
        store.read_rollouts(tmp_path / "nowhere")
    with pytest.raises(FailureDetectionError, match="has no episodes"):
        store.write_shard(tmp_path, "c", [])
    with pytest.raises(FailureDetectionError, match="p-5 is there twice"):
        store.write_shard(tmp_path, "c", [make_episode(5), make_episode(5)])


def test_a_folder_holds_rollouts_of_one_kind(tmp_path: Path) -> None:
    store.write_manifest(tmp_path, {"suite": "core", "samples": 10, "kinds": ("none",)})
    store.write_manifest(tmp_path, {"suite": "core", "samples": 10, "kinds": ("none",)})
    with pytest.raises(FailureDetectionError, match="suite is 'core', not 'basic'"):
        store.write_manifest(tmp_path, {"suite": "basic", "samples": 10, "kinds": ("none",)})
    with pytest.raises(FailureDetectionError, match="no rollouts there"):
        store.read_manifest(tmp_path / "nowhere")


def spoil(episode: Episode, name: str, value: float) -> dict[str, object]:
    array = getattr(episode, name).copy()
    array[1] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: spoil(e, "features", np.nan), "features is not finite"),
        (lambda e: spoil(e, "features", np.inf), "features is not finite"),
        (lambda e: spoil(e, "chunks", np.nan), "chunks is not finite"),
        (lambda e: spoil(e, "times", 0.0), "times do not rise"),
        (lambda e: {"states": e.states[:3]}, "states has 3 steps and times has 10"),
        (lambda e: {"features": e.features[:, :2]}, "need \\(T, 3, 3, width\\)"),
        (lambda e: {"chunks": e.chunks[..., :9]}, "need \\(T, H, 10\\)"),
        (lambda e: {"samples": e.chunks[:, None, :8]}, "samples are"),
        (lambda e: {n: a[:0] for n, a in e.arrays().items()}, "no inference"),
    ],
)
def test_episodes_are_checked(change: object, message: str) -> None:
    episode = make_episode(0)
    with pytest.raises(FailureDetectionError, match=message):
        replace(episode, **change(episode))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("outcome", "changes", "message"),
    [
        ("success", {"success_time": None}, "success_time None"),
        ("timeout", {"success_time": 1.0}, "success_time 1.0"),
        ("failure", {"onset_step": None}, "onset_step None"),
        ("success", {"onset_step": 3}, "onset_step 3"),
        ("success", {"severity": 1.5}, "severity 1.5; valid: 0 to 1"),
    ],
)
def test_rows_are_checked(outcome: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(FailureDetectionError, match=message):
        make_info(0, outcome, **changes)


def test_a_start_says_nothing_of_the_end() -> None:
    fields = set(make_info(0).start.__dict__)
    assert fields.isdisjoint({"outcome", "success_time", "onset_step", "seed", "time_limit"})
    assert make_info(0, "success").start == make_info(0, "failure").start
    assert [str(outcome) for outcome in Outcome] == ["success", "failure", "timeout"]


def test_aggregates_by_hand() -> None:
    features = np.arange(2 * 3 * 1, dtype=np.float32).reshape(2, 3, 1)
    # Rows: flow first (0, 1, 2), last (3, 4, 5), mean (1.5, 2.5, 3.5).
    expected = [[0.0, 2.0, 1.0], [3.0, 5.0, 4.0], [1.5, 3.5, 2.5]]
    assert aggregate_features(features)[..., 0].tolist() == expected
    with pytest.raises(FailureDetectionError, match="flow steps, horizon, width"):
        aggregate_features(features[0])


def test_chunks_hold_position_rotation_and_opening() -> None:
    pose = np.array([[0.0, -1.0, 0.0, 0.4], [1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.6],
                     [0.0, 0.0, 0.0, 1.0]])  # fmt: skip
    (row,) = chunk_array(pose[None], np.array([0.08]))
    expected = [0.4, 0.5, 0.6, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.08]
    np.testing.assert_allclose(row, expected, atol=1e-7)
