# SPDX-License-Identifier: Apache-2.0
"""Another policy takes over between two chunks, or the present one goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from test_inference import ACTIVE, JOINTS, World, asynchronous, infer_again, wait_for

from vla_nodes.inference.scripted import CirclePolicy
from vla_nodes.inference.swap import load_and_swap
from vla_nodes.inference.worker import InferenceThread


def named(policy_id: str, **spec: Any) -> CirclePolicy:
    policy = CirclePolicy(JOINTS)
    policy.spec = replace(policy.spec, policy_id=policy_id, **spec)
    return policy


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def thread(world: World) -> Iterator[InferenceThread]:
    made = InferenceThread(
        named("old"), asynchronous(), world.observe, lambda: world.now, world.results.append
    )
    made.start()
    made.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    yield made
    made.stop()


def ids(world: World) -> list[str]:
    return [result.chunk.policy_id for result in world.results]


def test_the_old_policy_serves_until_the_new_one_is_ready(
    world: World, thread: InferenceThread
) -> None:
    entered, release = threading.Event(), threading.Event()
    answers: list[tuple[bool, str]] = []
    warmed: list[Any] = []

    def load() -> CirclePolicy:
        entered.set()
        assert release.wait(20.0)
        return named("new")

    loading = threading.Thread(
        target=lambda: answers.append(load_and_swap(load, warmed.append, thread))
    )
    loading.start()
    assert entered.wait(10.0)
    infer_again(world)
    release.set()
    loading.join(10.0)
    assert answers == [(True, "policy new takes over from old")]
    assert [policy.spec.policy_id for policy in warmed] == ["new"]
    assert thread.policy.spec.policy_id == "new"
    infer_again(world)
    infer_again(world)
    assert ids(world) == ["old", "old", "new", "new"]


def test_an_inference_under_way_ends_with_the_policy_that_began_it(world: World) -> None:
    class Slow(CirclePolicy):
        def encode(self, observation: Any) -> Any:
            entered.set()
            assert release.wait(20.0)
            return self.spec.policy_id, super().encode(observation)

        def act(self, context: Any, state: Any, guidance: Any = None) -> Any:
            maker, circle = context
            assert maker == self.spec.policy_id, "a context of one policy, a chunk of another"
            return super().act(circle, state)

    def slow(policy_id: str) -> Slow:
        policy = Slow(JOINTS)
        policy.spec = replace(policy.spec, policy_id=policy_id)
        return policy

    entered, release = threading.Event(), threading.Event()
    thread = InferenceThread(
        slow("old"), asynchronous(), world.observe, lambda: world.now, world.results.append
    )
    thread.start()
    thread.assign(ACTIVE)
    assert entered.wait(10.0)
    assert load_and_swap(lambda: slow("new"), lambda _: None, thread)[0]
    release.set()
    wait_for(lambda: len(world.results) == 1)
    infer_again(world)
    thread.stop()
    assert ids(world) == ["old", "new"]
    assert thread.statistics.failure == ""


def broken() -> CirclePolicy:
    raise ValueError("no checkpoint folder at /nowhere")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (broken, "no checkpoint folder at /nowhere; policy old goes on"),
        (lambda: named("new", cameras=("top",)), "its cameras is ('top',), this node is set up"),
        (lambda: named("new", step_dt=0.1), "its step_dt is 0.1"),
    ],
)
def test_what_cannot_take_over_leaves_the_old_policy_serving(
    world: World, thread: InferenceThread, load: Any, message: str
) -> None:
    good, told = load_and_swap(load, lambda _: None, thread)
    assert not good
    assert message in told
    infer_again(world)
    assert ids(world) == ["old", "old"]


def test_a_policy_that_fails_its_first_run_does_not_take_over(
    world: World, thread: InferenceThread
) -> None:
    def fails(policy: Any) -> None:
        raise RuntimeError("no memory")

    assert load_and_swap(lambda: named("new"), fails, thread) == (
        False,
        "RuntimeError: no memory; policy old goes on",
    )
    infer_again(world)
    assert ids(world) == ["old", "old"]
