# SPDX-License-Identifier: Apache-2.0
"""Rows of an episode: the live observation again, and the action that was then executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from control_episode import CAMERAS, CONTRACT, PERIOD, RATE, TAKEOVER, kinematics, reference, write

from vla_data import EpisodeReader, EpisodeReadError, ObservationError, time_ns
from vla_data.rows import common_rate, episode_span, grid, read_rows, survey

NS = 1_000_000_000


def rows_of(bag: Path, rate: int = RATE) -> list:
    with EpisodeReader(bag) as reader:
        found = survey(reader, CONTRACT)
        return list(read_rows(reader, CONTRACT, found, rate, kinematics))


def test_rows_are_bit_equal_to_what_a_live_node_builds(control_bag: Path) -> None:
    rows = rows_of(control_bag)
    assert len(rows) > 30
    with EpisodeReader(control_bag) as reader:
        found = survey(reader, CONTRACT)
        first, period = grid(found, RATE)
        # As policy_node does: every message into its signal when it arrives, then one look.
        signals = CONTRACT.signals()
        arrivals = iter(list(reader.messages([f"/{topic}" for topic in signals])))
        pending = next(arrivals)
        for number, row in enumerate(rows):
            now_ns = first + number * period
            while pending is not None and pending.log_ns <= now_ns:
                stamp = time_ns(pending.message.header.stamp)
                signals[pending.topic[1:]].append(stamp, pending.message)
                pending = next(arrivals, None)
            live = CONTRACT.build(signals, now_ns, kinematics, "pick it up")
            offline = row.observation
            assert offline.stamp_ns == live.stamp_ns
            for camera in CAMERAS:
                assert np.array_equal(offline.images[camera], live.images[camera])
            for name in ("q", "dq", "gripper_opening", "pose_tool_in_base"):
                assert np.array_equal(getattr(offline, name), getattr(live, name))
            assert offline.instruction == live.instruction


def test_every_row_has_the_instruction_that_was_in_force(tmp_path: Path, messages) -> None:
    bag = write(tmp_path / "bag", messages, instructions={1.0: "put it back"})
    rows = rows_of(bag)
    said = [row.observation.instruction for row in rows]
    at = [row.observation.stamp_ns / NS for row in rows]
    changed = said.index("put it back")
    assert set(said[:changed]) == {"pick it up"}
    assert set(said[changed:]) == {"put it back"}
    assert changed > 5
    assert at[changed - 1] < 1.0 < at[changed] + PERIOD


def test_the_action_is_the_reference_one_period_later(control_bag: Path) -> None:
    for row in rows_of(control_bag):
        then = row.observation.stamp_ns / NS + PERIOD
        # States come every 10 ms: the latest one that is not later.
        expected = reference(np.floor(then * 100 + 1e-6) / 100)
        np.testing.assert_allclose(row.action[:3], expected, atol=1e-9)
        assert row.action[7] == pytest.approx(0.03)


def test_who_commanded_the_action_is_told_apart(control_bag: Path) -> None:
    rows = rows_of(control_bag)
    taken = [row for row in rows if row.observation.stamp_ns / NS + PERIOD >= TAKEOVER]
    assert 0 < len(taken) < len(rows)
    for row in rows:
        operator = row.observation.stamp_ns / NS + PERIOD >= TAKEOVER
        assert row.intervention == operator
        assert row.control_source == ("operator" if operator else "policy")


def test_a_chunk_counts_once_it_has_arrived_and_until_it_has_run_out(control_bag: Path) -> None:
    rows = rows_of(control_bag)
    assert rows[0].chunk is None
    assert np.isnan(rows[0].chunk_age)
    with_chunk = [row for row in rows if row.chunk is not None]
    assert with_chunk
    for row in with_chunk:
        assert row.chunk.shape == (4, 8)
        made = row.observation.stamp_ns / NS - row.chunk_age
        np.testing.assert_allclose(row.chunk[0, 0], made, atol=1e-6)  # see `write`
        assert 0.0 < row.chunk_age <= 4 * PERIOD
    assert rows[-1].chunk is None  # the policy has long been silent


def test_quaternions_are_continuous_and_no_row_is_repeated(control_bag: Path) -> None:
    rows = rows_of(control_bag)
    quaternions = np.array([row.action[3:7] for row in rows])
    assert (np.sum(quaternions[1:] * quaternions[:-1], axis=1) > 0.9).all()
    assert not any(row.repeated for row in rows)
    assert any(row.repeated for row in rows_of(control_bag, 2 * RATE))


def test_rates_are_those_of_the_stamps(control_bag: Path) -> None:
    with EpisodeReader(control_bag) as reader:
        found = survey(reader, CONTRACT)
    assert found.rates["scene"] == pytest.approx(RATE, rel=0.01)
    assert common_rate([found]) == RATE


def test_a_silent_camera_in_the_middle_is_an_error_not_a_repeated_picture(
    tmp_path: Path, messages
) -> None:
    bag = write(tmp_path / "gap", messages, silent=("wrist", 1.0, 1.6))
    with pytest.raises(ObservationError, match=r"camera 'wrist': is stale.* s into the episode"):
        rows_of(bag)


def test_a_bag_without_a_needed_topic_names_it(tmp_path: Path, messages) -> None:
    bag = write(tmp_path / "blind", messages, silent=("wrist", 0.0, 99.0))
    with pytest.raises(EpisodeReadError, match="cameras/wrist/image_raw"):
        rows_of(bag)


def test_rows_begin_at_the_start_and_stop_at_the_end(tmp_path: Path, messages) -> None:
    # Before its START the bag holds the end of another episode, in which the policy had the arm.
    events = {0.2: (0, "another"), 0.9: (1, "another"), 1.1: (0, "bag"), 2.5: (1, "bag")}
    bag = write(tmp_path / "bag", messages, events_at=events)
    with EpisodeReader(bag) as reader:
        assert episode_span(reader) == (round(1.1 * NS), round(2.5 * NS))
        found = survey(reader, CONTRACT)
        rows = list(read_rows(reader, CONTRACT, found, RATE, kinematics))
    stamps = [row.observation.stamp_ns / NS for row in rows]
    assert 1.1 <= stamps[0] < 1.1 + 3 * PERIOD
    assert 2.5 - 3 * PERIOD < stamps[-1] <= 2.5
    assert all(row.chunk is None for row in rows)  # that of 1.08 s belongs to the other episode
    assert {row.control_source for row in rows} == {"policy", "operator"}
    assert found.rates["scene"] == pytest.approx(RATE, rel=0.02)
