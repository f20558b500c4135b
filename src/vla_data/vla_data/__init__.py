# SPDX-License-Identifier: Apache-2.0
"""Episodes as MCAP bags, observation contracts, synchronisation and reports."""

from vla_data.bag_check import check_bag, check_table
from vla_data.bag_info import bag_info, bag_table
from vla_data.bag_repair import repair_bag
from vla_data.contract import (
    CameraContract,
    ContractError,
    GripperContract,
    InstructionContract,
    JointsContract,
    ObservationContract,
)
from vla_data.definitions import DefinitionError, Definitions
from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.episode_reader import (
    EpisodeMessage,
    EpisodeReader,
    EpisodeReadError,
    RawMessage,
    TopicInfo,
)
from vla_data.episode_writer import EpisodeWriteError, EpisodeWriter
from vla_data.observation import Observation, ObservationError
from vla_data.qos import QosProfile
from vla_data.synchronisation import Sample, Signal, time_ns

__all__ = [
    "CameraContract",
    "ContractError",
    "DefinitionError",
    "Definitions",
    "EpisodeInfo",
    "EpisodeMessage",
    "EpisodeOutcome",
    "EpisodeReadError",
    "EpisodeReader",
    "EpisodeWriteError",
    "EpisodeWriter",
    "GripperContract",
    "InstructionContract",
    "JointsContract",
    "Observation",
    "ObservationContract",
    "ObservationError",
    "QosProfile",
    "RawMessage",
    "Sample",
    "Signal",
    "TopicInfo",
    "bag_info",
    "bag_table",
    "check_bag",
    "check_table",
    "repair_bag",
    "time_ns",
]
