# SPDX-License-Identifier: Apache-2.0
import pytest
from arm import Plant, make_config


@pytest.fixture
def plant() -> Plant:
    """An arm at rest under an activated controller that watches no heartbeat."""
    return Plant()


@pytest.fixture
def supervised() -> Plant:
    """The same with a watched heartbeat of boot 7, grant 1, beating every cycle."""
    plant = Plant(config=make_config(heartbeat_timeout_s=0.1))
    plant.beat = (7, 1)
    plant.run(0.01)
    return plant
