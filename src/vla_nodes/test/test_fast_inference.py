# SPDX-License-Identifier: Apache-2.0
"""Fast and slow: chunks from fresh joint states, contexts whose age is known and limited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_inference import ACTIVE, JOINTS, World, asynchronous, wait_for

from vla_data import Observation, ObservationError
from vla_nodes.inference import worker as inference
from vla_nodes.inference.fast import FastInferenceThread
from vla_nodes.inference.scripted import CirclePolicy
from vla_nodes.inference.worker import Assignment
from vla_policy.types import ActionChunk

ACT = 33_333_333  # ns


class Attentive(CirclePolicy):
    """Says in each chunk which images and which joints it comes from."""

    def __init__(self, policy_id: str = "attentive") -> None:
        super().__init__(JOINTS)
        self.spec = replace(self.spec, policy_id=policy_id)

    def encode(self, observation: Any) -> Any:
        return observation.stamp_ns, super().encode(observation)

    def act(self, context: Any, state: Any, guidance: Any = None) -> ActionChunk:
        stamp_ns, circle = context
        chunk = super().act(circle, state)
        features = np.array([stamp_ns, state.q[0]], dtype=np.float32)
        return replace(chunk, stamp_ns=stamp_ns, features=features)


class Moving(World):
    """Joints that move with time, and images that may stand still."""

    state_error: Exception | None = None

    def observe_state(self, now_ns: int) -> Observation:
        if self.state_error is not None:
            raise self.state_error
        return replace(World().observe(now_ns, ""), q=np.full(2, now_ns * 1e-9))


@pytest.fixture
def world() -> Moving:
    made = Moving()
    made.stamp = 0
    return made


@pytest.fixture
def thread(world: Moving) -> Iterator[FastInferenceThread]:
    made = FastInferenceThread(
        Attentive(),
        asynchronous(),
        world.observe,
        lambda: world.now,
        world.results.append,
        observe_state=world.observe_state,
        act_rate=30.0,
        max_context_age=0.2,
    )
    made.start()
    yield made
    made.stop()


def act_again(world: Moving) -> None:
    count = len(world.results)
    world.now += ACT
    wait_for(lambda: len(world.results) == count + 1)


def test_chunks_start_from_fresh_joints_on_images_that_age(
    world: Moving, thread: FastInferenceThread
) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    for _ in range(3):
        act_again(world)
    ages = [result.context_age for result in world.results]
    assert ages == pytest.approx([0.0, 0.0333, 0.0667, 0.1], abs=1e-3)
    last = world.results[-1].chunk
    assert last.stamp_ns == 3 * ACT, "stamped with the joints it starts from"
    assert last.features[1] == pytest.approx(0.1, abs=1e-3)
    assert [result.chunk.features[0] for result in world.results] == [0, 0, 0, 0]
    world.stamp = world.now
    wait_for(lambda: thread._encoded is not None and thread._encoded.stamp_ns == world.stamp)
    act_again(world)
    assert world.results[-1].context_age == pytest.approx(0.0333, abs=1e-3)
    assert thread.statistics.context_age == pytest.approx(0.0333, abs=1e-3)


def test_what_is_late_is_not_kept_waiting_for_the_next_look_at_the_clock(
    world: Moving, thread: FastInferenceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    act = Attentive.act

    def late(policy: Attentive, context: Any, state: Any, guidance: Any = None) -> ActionChunk:
        world.now += ACT + 1_000_000
        return act(policy, context, state, guidance)

    monkeypatch.setattr(Attentive, "act", late)
    monkeypatch.setattr(inference, "POLL_PERIOD", 60.0)
    world.now += ACT
    wait_for(lambda: len(world.results) >= 4)


def test_a_context_that_is_too_old_gives_no_chunk(
    world: Moving, thread: FastInferenceThread
) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    world.error = ObservationError("camera 'wrist'", "is stale")
    world.now = 190_000_000
    wait_for(lambda: len(world.results) == 2)
    world.now = 230_000_000
    wait_for(lambda: bool(thread.statistics.blocked_now))
    assert thread.statistics.blocked_now == (
        "context: is 0.230 s old, limit 0.2 s (camera 'wrist': is stale)"
    )
    assert thread.statistics.blocked == {"context": 1}
    assert len(world.results) == 2
    world.error, world.stamp = None, world.now
    wait_for(lambda: len(world.results) == 3)


def test_joints_that_are_missing_give_no_chunk(world: Moving, thread: FastInferenceThread) -> None:
    world.state_error = ObservationError("joints", "has never arrived")
    thread.assign(ACTIVE)
    wait_for(lambda: thread.statistics.blocked == {"joints": 1})
    assert not world.results
    world.state_error = None
    wait_for(lambda: len(world.results) == 1)


def test_the_context_of_another_instruction_is_not_used(
    world: Moving, thread: FastInferenceThread
) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    world.error = ObservationError("camera 'wrist'", "is stale")
    thread.assign(Assignment(True, "something else", 2, 0, (1, 1)))
    world.now += ACT
    wait_for(lambda: thread.statistics.blocked == {"context": 1})
    assert len(world.results) == 1


def test_a_swap_shows_in_the_first_chunk_of_the_new_context(
    world: Moving, thread: FastInferenceThread
) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    thread.swap(Attentive("new"))
    wait_for(lambda: thread._encoded is not None and thread._encoded.policy is thread.policy)
    act_again(world)
    assert [result.chunk.policy_id for result in world.results] == ["attentive", "new"]
