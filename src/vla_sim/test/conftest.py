# SPDX-License-Identifier: Apache-2.0
"""Simulations shared by the tests: compiling one costs more than most tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from vla_sim import robots
from vla_sim.simulation import Simulation


@pytest.fixture(scope="session")
def make_sim() -> Iterator[Callable[..., Simulation]]:
    """Give simulations by robot; each is laid anew for whoever asks."""
    made: dict[str, Simulation] = {}

    def make(robot: str = "panda", task: str = "pick", seed: int = 0) -> Simulation:
        if robot not in made:
            made[robot] = Simulation(robot, task, seed)
        made[robot].stop_realtime()
        made[robot].reset(task, seed, suite="basic")
        return made[robot]

    yield make
    for sim in made.values():
        sim.close()


@pytest.fixture(params=robots.names())
def robot_name(request: pytest.FixtureRequest) -> str:
    """Give the name of each robot."""
    return str(request.param)
