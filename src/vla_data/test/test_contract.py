# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from made_episode import FINGERS, JOINTS, NS

from vla_data import ContractError, EpisodeReader, ObservationContract, ObservationError, time_ns

FILE = Path(__file__).parent / "contract_panda.yaml"


@pytest.fixture
def contract():
    return ObservationContract.from_yaml(FILE)


def forward_kinematics(q):
    pose = np.eye(4)
    pose[0, 3] = q[0]
    return pose


def fill(contract, messages, stamps=(0.0, 0.1), joints_at=None):
    """Signals with pictures whose first pixel is the frame's number, and a joint state each."""
    signals = contract.signals()
    for index, time in enumerate(stamps):
        stamp = NS + round(time * NS)
        for camera in contract.cameras.values():
            pixels = np.full((camera.height, camera.width, 3), index, np.uint8)
            signals[camera.topic].append(stamp, messages.image(stamp, pixels))
        owner = messages.make("vla_msgs/msg/ControlOwner", instruction="pick up the red block")
        signals["control_owner"].append(stamp, owner)
    for index, time in enumerate(stamps if joints_at is None else joints_at):
        q = np.arange(7) + 10.0 * index
        state = messages.joint_state(0, q, np.full(7, float(index)), 0.05)
        signals["joint_states"].append(NS + round(time * NS), state)
    return signals


def build(contract, signals, time):
    return contract.build(signals, NS + round(time * NS), forward_kinematics)


def test_observation_has_everything_in_the_contract_order(contract, messages):
    observation = build(contract, fill(contract, messages), 0.11)
    assert observation.stamp_ns == NS + NS // 10
    assert sorted(observation.images) == ["scene", "wrist"]
    assert observation.images["wrist"][0, 0, 0] == 1
    assert observation.q.tolist() == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0]
    assert observation.dq.tolist() == [1.0] * 7
    assert observation.gripper_opening == pytest.approx(0.05)
    assert observation.instruction == "pick up the red block"
    assert observation.pose_tool_in_base[0, 3] == 10.0


def test_state_is_the_one_at_the_picture_not_the_newest(contract, messages):
    signals = fill(contract, messages, stamps=(0.0, 0.1), joints_at=(0.0, 0.09, 0.12, 0.15))
    observation = build(contract, signals, 0.16)
    assert observation.stamp_ns == NS + NS // 10
    assert observation.q[0] == 10.0


def test_both_pictures_are_not_after_the_older_one(contract, messages):
    signals = fill(contract, messages, stamps=(0.0, 0.1))
    late = messages.image(0, np.full((96, 96, 3), 9, np.uint8))
    signals["cameras/scene/image_raw"].append(NS + round(0.15 * NS), late)
    observation = build(contract, signals, 0.16)
    assert observation.stamp_ns == NS + NS // 10
    assert observation.images["scene"][0, 0, 0] == 1


def test_live_and_offline_observations_are_bit_equal(contract, episode_bag):
    topics = {"/cameras/scene/image_raw", "/cameras/wrist/image_raw", "/joint_states"}
    now_ns = 6 * NS + 30_000_000

    def replay(end_ns):
        signals = contract.signals()
        with EpisodeReader(episode_bag) as reader:
            for each in reader.messages(topics, end_ns=end_ns):
                stamp = time_ns(each.message.header.stamp)
                signals[each.topic.removeprefix("/")].append(stamp, each.message)
        return contract.build(signals, now_ns, forward_kinematics, "pick")

    live, offline = replay(end_ns=now_ns), replay(end_ns=None)
    assert live.stamp_ns == offline.stamp_ns
    for camera, pixels in live.images.items():
        assert np.array_equal(pixels, offline.images[camera])
    assert np.array_equal(live.q, offline.q)


def without(signals, topic):
    return {name: signal for name, signal in signals.items() if name != topic}


def replaced(signals, topic, value):
    signals[topic].append(NS + NS // 10, value)
    return signals


def joint_state(messages, **changes):
    state = messages.joint_state(0, np.zeros(7), np.zeros(7))
    for name, value in changes.items():
        setattr(state, name, value)
    return state


SCENE = "cameras/scene/image_raw"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s, m: without(s, SCENE), "camera 'scene': has no signal 'cameras/scene/image_raw'"),
        (lambda s, m: without(s, "joint_states"), "joints: has no signal 'joint_states'"),
        (lambda s, m: without(s, "control_owner"), "instruction: has no signal 'control_owner'"),
        (
            lambda s, m: replaced(s, SCENE, m.image(0, np.zeros((48, 96, 3), np.uint8))),
            "camera 'scene': is 96x48 px, the contract says 96x96 px",
        ),
        (
            lambda s, m: replaced(s, SCENE, m.image(0, np.zeros((96, 96, 3), np.uint8), "bgr8")),
            "camera 'scene': has encoding 'bgr8', the contract says 'rgb8'",
        ),
        (
            lambda s, m: replaced(
                s, SCENE, m.make("sensor_msgs/msg/CompressedImage", format="png")
            ),
            "camera 'scene': has encoding 'png'",
        ),
        (
            lambda s, m: replaced(s, SCENE, m.make("std_msgs/msg/String")),
            "camera 'scene': .*String is not an image message",
        ),
        (
            lambda s, m: replaced(
                s, "joint_states", joint_state(m, name=[*FINGERS, *JOINTS[:6], "x"])
            ),
            "joints: lacks panda_joint7; it has .*panda_joint6, x",
        ),
        (
            lambda s, m: replaced(s, "joint_states", joint_state(m, name=["a", "b", *JOINTS])),
            "gripper: lacks panda_finger_joint1, panda_finger_joint2",
        ),
        (
            lambda s, m: replaced(s, "joint_states", joint_state(m, velocity=np.zeros(0))),
            "joints: velocity has 0 values for 9 joint names",
        ),
        (
            lambda s, m: replaced(s, "joint_states", joint_state(m, position=np.full(9, np.nan))),
            "joints: position of panda_joint1 is nan",
        ),
        (
            lambda s, m: replaced(s, "control_owner", m.make("std_msgs/msg/String")),
            "instruction: .*String has no field instruction",
        ),
    ],
)
def test_every_bad_signal_is_named(contract, messages, damage, message):
    signals = fill(contract, messages)
    build(contract, signals, 0.11)
    with pytest.raises(ObservationError, match=message):
        build(contract, damage(signals, messages), 0.11)


def test_a_camera_of_any_size_is_taken_as_it_is(contract, messages):
    any_size = {
        name: dataclasses.replace(one, height=None, width=None)
        for name, one in contract.cameras.items()
    }
    signals = replaced(
        fill(contract, messages), SCENE, messages.image(0, np.zeros((48, 80, 3), np.uint8))
    )
    observation = build(dataclasses.replace(contract, cameras=any_size), signals, 0.11)
    assert observation.images["scene"].shape == (48, 80, 3)


def test_stale_camera_and_stale_joints_are_named(contract, messages):
    signals = fill(contract, messages)
    build(contract, signals, 0.34)
    with pytest.raises(ObservationError, match="camera 'scene': is stale"):
        build(contract, signals, 0.36)
    signals = fill(contract, messages, stamps=(0.0, 0.2), joints_at=(0.0,))
    with pytest.raises(ObservationError, match="joints: is stale"):
        build(contract, signals, 0.21)


def test_a_camera_that_never_came_is_named(contract, messages):
    signals = fill(contract, messages)
    signals["cameras/wrist/image_raw"].clear()
    with pytest.raises(ObservationError, match="camera 'wrist': no value has arrived"):
        build(contract, signals, 0.11)


def test_a_bad_forward_kinematics_is_caught(contract, messages):
    with pytest.raises(ObservationError, match="pose_tool_in_base: has a value that is not finite"):
        contract.build(fill(contract, messages), NS + NS // 9, lambda q: np.full((4, 4), np.nan))


def test_grey_and_compressed_cameras(messages):
    document = yaml.safe_load(FILE.read_text())
    document["cameras"]["scene"]["encoding"] = "mono8"
    document["cameras"]["wrist"]["encoding"] = "png"
    contract = ObservationContract.from_dict(document)
    signals = fill(contract, messages)
    grey = messages.image(0, np.full((96, 96, 1), 33, np.uint8), "mono8")
    signals[SCENE].append(NS + NS // 5, grey)
    data = cv2.imencode(".png", np.full((96, 96, 3), 44, np.uint8))[1].reshape(-1)
    png = messages.make("sensor_msgs/msg/CompressedImage", format="png", data=data)
    signals["cameras/wrist/image_raw"].append(NS + NS // 5, png)
    signals["joint_states"].append(NS + NS // 5, joint_state(messages))
    observation = build(contract, signals, 0.2)
    assert observation.images["scene"].shape == (96, 96, 3)
    assert (observation.images["scene"] == 33).all()
    assert (observation.images["wrist"] == 44).all()


def changed(path, value):
    document = yaml.safe_load(FILE.read_text())
    target = document
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["camera"], {}, "unknown key camera; allowed are name, base_frame"),
        (["joints"], None, "lacks joints"),
        (["cameras", "wrist", "fps"], 30, "cameras.wrist: unknown key fps"),
        (["cameras", "wrist", "height"], None, "cameras.wrist: lacks height"),
        (["cameras", "wrist", "height"], 96.5, "camera height: 96.5 is not a positive number"),
        (["cameras", "wrist", "encoding"], "yuv422", "'yuv422' is not one of rgb8, bgr8"),
        (["cameras", "wrist", "tolerance"], 0, "camera tolerance: 0 is not a positive number of s"),
        (["cameras", "wrist", "topic"], SCENE, "cameras: two share a topic"),
        (["joints", "names"], ["a", "a"], "names something twice"),
        (["joints", "names"], [], "is not a list of names"),
        (["joints", "tolerance"], "fast", "joints tolerance: 'fast' is not"),
        (["gripper", "scale"], 0.0, "gripper scale: 0"),
        (["base_frame"], "", "base_frame: '' is not a name"),
    ],
)
def test_a_wrong_contract_says_what_is_allowed(tmp_path, path, value, message):
    file = tmp_path / "contract.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(ContractError, match=message):
        ObservationContract.from_yaml(file)


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    file = tmp_path / "contract.yaml"
    file.write_text("cameras: [")
    with pytest.raises(ContractError, match="is not YAML"):
        ObservationContract.from_yaml(file)


def test_instruction_may_come_from_the_caller(messages):
    contract = ObservationContract.from_dict(changed(["instruction"], None))
    signals = fill_without_owner(contract, messages)
    with pytest.raises(ObservationError, match="instruction: is neither given"):
        contract.build(signals, NS, forward_kinematics)
    observation = contract.build(signals, NS, forward_kinematics, "push the blue block")
    assert observation.instruction == "push the blue block"


def fill_without_owner(contract, messages):
    signals = contract.signals()
    for camera in contract.cameras.values():
        signals[camera.topic].append(NS, messages.image(NS, np.zeros((96, 96, 3), np.uint8)))
    signals["joint_states"].append(NS, messages.joint_state(0, np.zeros(7), np.zeros(7)))
    return signals
