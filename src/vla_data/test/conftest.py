# SPDX-License-Identifier: Apache-2.0
"""Shared pieces of the tests: definitions, messages and a made-up episode."""

from __future__ import annotations

from pathlib import Path

import control_episode
import pytest
from made_episode import Messages, write_episode

from vla_data import Definitions, EpisodeReader


@pytest.fixture(scope="session")
def definitions() -> Definitions:
    return Definitions()


@pytest.fixture(scope="session")
def messages(definitions: Definitions) -> Messages:
    return Messages(definitions)


@pytest.fixture(scope="session")
def episode_bag(tmp_path_factory: pytest.TempPathFactory, messages: Messages) -> Path:
    """A finished episode of two seconds with every kind of topic a report reads."""
    return write_episode(tmp_path_factory.mktemp("bags") / "episode_000", messages)


@pytest.fixture(scope="session")
def control_bag(tmp_path_factory: pytest.TempPathFactory, messages: Messages) -> Path:
    """A finished episode with everything a dataset is made of; an operator takes over at 2 s."""
    return control_episode.write(tmp_path_factory.mktemp("bags") / "episode_000", messages)


@pytest.fixture
def reader(episode_bag: Path) -> EpisodeReader:
    return EpisodeReader(episode_bag)
