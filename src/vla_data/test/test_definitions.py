# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from mcap_ros2._dynamic import generate_dynamic

from vla_data import DefinitionError, Definitions
from vla_data.definitions import typestore_from_texts

STATE = "vla_msgs/msg/ControllerState"


def package(folder: Path, name: str, **files: str) -> None:
    (folder / name / "msg").mkdir(parents=True)
    for message, text in files.items():
        (folder / name / "msg" / f"{message}.msg").write_text(text)


def test_definitions_hold_all_dependencies_once(definitions):
    text = definitions.full_text(STATE)
    headings = [line for line in text.splitlines() if line.startswith("MSG: ")]
    assert len(headings) == len(set(headings)) == 8
    assert "MSG: geometry_msgs/Vector3" in headings
    assert text.count("=" * 80) == 8
    assert text.startswith(definitions.text(STATE))


def test_a_parser_other_than_rosbags_reads_them(definitions, messages):
    decoders = generate_dynamic(STATE, definitions.full_text(STATE))
    message = messages.make(STATE, chunk_age=0.25, joint_names=["a", "b"])
    decoded = decoders[STATE](messages.cdr(message))
    assert decoded.chunk_age == 0.25
    assert decoded.joint_names == ["a", "b"]


def test_round_trip_with_the_text_alone(definitions, messages):
    store = typestore_from_texts({STATE: definitions.full_text(STATE)})
    message = messages.make(STATE, phase=2, tool_frame="panda_hand_tcp")
    decoded = store.deserialize_cdr(messages.cdr(message), STATE)
    assert (decoded.phase, decoded.tool_frame) == (2, "panda_hand_tcp")


@pytest.mark.parametrize(
    "type_name",
    ["sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "diagnostic_msgs/msg/DiagnosticArray"],
)
def test_computed_hashes_are_those_rosidl_installed(definitions, type_name):
    installed = definitions.file(type_name).with_suffix(".json")
    assert installed.is_file()
    entries = json.loads(installed.read_text())["type_hashes"]
    expected = next(e["hash_string"] for e in entries if e["type_name"] == type_name)
    assert definitions.type_hash(type_name) == expected
    assert definitions.typestore([type_name]).hash_rihs01(type_name) == expected


def test_an_installed_hash_counts_and_a_missing_one_is_computed(tmp_path):
    package(tmp_path, "a_msgs", Thing="float64 x\n")
    definitions = Definitions([tmp_path])
    computed = definitions.type_hash("a_msgs/msg/Thing")
    assert computed.startswith("RIHS01_")
    assert len(computed) == len("RIHS01_") + 64
    entry = {"type_name": "a_msgs/msg/Thing", "hash_string": "RIHS01_installed"}
    (tmp_path / "a_msgs/msg/Thing.json").write_text(json.dumps({"type_hashes": [entry]}))
    assert definitions.type_hash("a_msgs/msg/Thing") == "RIHS01_installed"


def test_the_first_folder_wins(tmp_path):
    package(tmp_path / "over", "a_msgs", Thing="float64 x\n")
    package(tmp_path / "under", "a_msgs", Thing="float64 y\n")
    assert Definitions([tmp_path / "over", tmp_path / "under"]).text("a_msgs/msg/Thing")[8] == "x"


def test_what_is_missing_or_broken_is_named(tmp_path):
    package(tmp_path, "a_msgs", Thing="b_msgs/Gone gone\n", Broken="float64\n")
    definitions = Definitions([tmp_path])
    with pytest.raises(DefinitionError, match="no definition of b_msgs/msg/Gone; searched /"):
        definitions.full_text("a_msgs/msg/Thing")
    with pytest.raises(DefinitionError, match=r"cannot parse .*Broken\.msg"):
        definitions.full_text("a_msgs/msg/Broken")
    with pytest.raises(DefinitionError, match="'a_msgs/Thing' is not a message type"):
        definitions.text("a_msgs/Thing")
    with pytest.raises(DefinitionError, match="cannot parse the definition of a_msgs/msg/Broken"):
        typestore_from_texts({"a_msgs/msg/Broken": "float64\n"})
