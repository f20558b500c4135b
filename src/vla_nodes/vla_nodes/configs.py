# SPDX-License-Identifier: Apache-2.0
"""Parameter schemas of the nodes. Light: imported by `vla` and by the launch files too."""

from __future__ import annotations

from dataclasses import dataclass

from vla_nodes.parameters import parameter

TELEOP_INPUTS = ("gamepad", "spacemouse", "leader", "joy", "twist", "pose")

SCHEDULES = (
    "asynchronous",
    "synchronous",
    "temporal_ensembling",
    "rtc",
    "rtc_prefix",
    "vlash",
)


@dataclass(frozen=True)
class SimConfig:
    """Parameters of sim_node."""

    robot: str = parameter("name of the simulated robot")
    task: str = parameter("task laid at start-up")
    seed: int = parameter("seed of the scene laid at start-up", low=0)
    suite: str = parameter("how scenes are drawn, e.g. basic or core; see vla_sim.suites")
    cameras: tuple[str, ...] = parameter("names of the cameras")
    image_size: int = parameter("px, width and height of the images", low=16, high=1024)
    speed: float = parameter(
        "simulated seconds per second; less where the machine is busy: ROS time goes along",
        low=0.05,
        high=1.0,
    )
    camera_rate: float = parameter("Hz of simulated time", low=1.0, high=60.0)
    joint_state_rate: float = parameter("Hz, also of the clock", low=10.0, high=500.0)
    tf_rate: float = parameter("Hz", low=1.0, high=500.0)
    heartbeat_timeout: float = parameter(
        "s of simulated time without control_owner after which the arm brakes to a hold",
        low=0.1,
        high=5.0,
    )
    controller_state_rate: float = parameter("Hz", low=1.0, high=500.0)
    task_status_rate: float = parameter("Hz", low=1.0, high=50.0)
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)
    viewer: bool = parameter("open MuJoCo's viewer; needs a display")


@dataclass(frozen=True)
class CameraConfig:
    """Parameters of camera_node."""

    device: str = parameter("V4L2 device (a path or an index) or a video file")
    camera: str = parameter("name of the camera; topics are cameras/<camera>/...")
    frame_id: str = parameter("frame of the images")
    width: int = parameter("px; 0 = as the device delivers", low=0, high=8192)
    height: int = parameter("px; 0 = as the device delivers", low=0, high=8192)
    rate: float = parameter("Hz asked of a device, or at which a file plays", low=1.0, high=240.0)
    loop: bool = parameter("start a video file again at its end")
    calibration_file: str = parameter("YAML of a camera calibration; empty = uncalibrated")
    jpeg_quality: int = parameter("quality of compressed images", low=1, high=100)
    reopen_period: float = parameter("s between attempts to open a lost device", low=0.1, high=60.0)
    frame_timeout: float = parameter("s without a frame = the device is lost", low=0.1, high=60.0)
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class GripperConfig:
    """Parameters of gripper_node."""

    adapter: str = parameter(
        "what the gripper's driver offers: franka_gripper's actions, or one of control_msgs",
        choices=("franka", "gripper_command", "parallel_gripper_command"),
    )
    action: str = parameter(
        "name of the action, such as gripper_controller/gripper_cmd; "
        "of franka_gripper the name of the node, which holds its actions"
    )
    finger_joint_names: tuple[str, ...] = parameter("joints in joint_states that move alike")
    finger_scale: float = parameter(
        "m of opening per unit of the sum of their positions; not 0", low=-10.0, high=10.0
    )
    finger_offset: float = parameter("m, opening where the sum is 0", low=-1.0, high=1.0)
    max_opening: float = parameter("m between the finger pads", low=0.001, high=1.0)
    speed: float = parameter("m/s, where the action takes one", low=0.001, high=1.0)
    opening_hysteresis: float = parameter(
        "m, change of the opening that makes a goal", low=0.0005, high=0.1
    )
    force_hysteresis: float = parameter(
        "N, change of the force that makes a goal while grasping", low=0.1, high=100.0
    )
    min_period: float = parameter("s, least time between two goals", low=0.02, high=10.0)
    answer_timeout: float = parameter(
        "s for a goal to be accepted and for a cancellation to take effect", low=0.1, high=30.0
    )
    result_timeout: float = parameter("s for a goal to end", low=0.5, high=120.0)
    retries: int = parameter("goals after the first that a setpoint is worth", low=0, high=10)
    state_timeout: float = parameter(
        "s without the controller's state = the gripper is left as it is", low=0.1, high=5.0
    )
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class PolicyConfig:
    """Parameters of policy_node."""

    checkpoint: str = parameter(
        "folder of a checkpoint, 'nano_pi0' for the committed one, 'ws://host:port' of a policy "
        "server, the YAML file of an openpi server (docs/serving.md), or 'scripted/circle'"
    )
    certificates: str = parameter(
        "PEM file of the authorities that a server at 'wss://' is trusted by; '' = the system's"
    )
    server_timeout: float = parameter("s to wait for a policy server", low=0.1, high=60.0)
    threads: int = parameter("threads used by the inference", low=1, high=64)
    joint_names: tuple[str, ...] = parameter("arm joints, in the order of the policy's state")
    finger_joint_names: tuple[str, ...] = parameter(
        "joints whose positions add up to the opening between the finger pads"
    )
    finger_joint_states: str = parameter("topic of their positions")
    finger_scale: float = parameter(
        "m of opening per unit of the sum of their positions; not 0", low=-10.0, high=10.0
    )
    finger_offset: float = parameter("m, opening where the sum is 0", low=-1.0, high=1.0)
    base_frame: str = parameter("frame of the commanded poses")
    tool_frame: str = parameter("frame that is commanded")
    image_tolerance: float = parameter("s, older images are stale", low=0.02, high=5.0)
    joint_state_tolerance: float = parameter("s, older joint states are stale", low=0.01, high=5.0)
    seed: int = parameter("seed of the sampler's noise", low=0)
    schedule: str = parameter(
        "how inference and execution share the time; see docs/policy.md", choices=SCHEDULES
    )
    act_rate: float = parameter(
        "Hz of chunks from fresh joint states on the newest images that are encoded; "
        "0 = one chunk per observation",
        low=0.0,
        high=100.0,
    )
    context_max_age: float = parameter(
        "s, with an act_rate: encoded images that are older give no chunk", low=0.05, high=5.0
    )
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class SupervisorConfig:
    """Parameters of supervisor_node."""

    heartbeat_rate: float = parameter("Hz of control_owner", low=5.0, high=100.0)
    recorder_timeout: float = parameter(
        "s an episode waits for the recorder; 0 = starts without one", low=0.0, high=120.0
    )
    policy_timeout: float = parameter(
        "s without a chunk of a policy at full speed = it is silent", low=0.2, high=30.0
    )
    controller_timeout: float = parameter("s without its state = it is silent", low=0.1, high=30.0)
    operator_timeout: float = parameter(
        "s without a sign of an operator's device = it has let go of the arm", low=0.1, high=2.0
    )
    detector_timeout: float = parameter(
        "s without a word of the failure detector = the arm holds and asks; 0 = none is required",
        low=0.0,
        high=10.0,
    )
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class FailureConfig:
    """Parameters of failure_node."""

    detector: str = parameter("folder of a detector, written by `vla failure fit` and `calibrate`")
    allow_uncalibrated: bool = parameter(
        "run without a calibration, where nothing can alarm; every status says so"
    )
    reaction: str = parameter(
        "what an alarm leads to; BACKTRACK becomes ASK_HELP once the retries are used up",
        choices=("STOP", "BACKTRACK", "ASK_HELP"),
    )
    retries: int = parameter("how often per episode the arm may go back", low=0, high=10)
    persistence: int = parameter(
        "consecutive inferences above the band = an alarm", low=1, high=100
    )
    warning: float = parameter(
        "widths of the band; a score that is closer to it is a WARN", low=0.0, high=100.0
    )
    drift_level: float = parameter(
        "p-value at which the features are too unlike the calibration's; 0 = never",
        low=0.0,
        high=0.5,
    )
    max_age: float = parameter("s, older observations are not judged", low=0.05, high=5.0)
    feature_timeout: float = parameter(
        "s without an inference of a policy that owns the arm, at full speed", low=0.2, high=30.0
    )
    latency_tolerance: float = parameter(
        "s by which the measured latency may differ from the calibrated one", low=0.0, high=1.0
    )
    status_rate: float = parameter("Hz of failure/status", low=2.0, high=50.0)
    cameras: tuple[str, ...] = parameter("whose pictures go with a request for help")
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of recorder_node."""

    directory: str = parameter("folder that receives one bag per episode")
    name_pattern: str = parameter(
        "name of a bag, from {episode_id}, {task}, {source}, {seed}, {date} and {time} (UTC)"
    )
    source: str = parameter("where the data comes from, stored with each episode")
    required_topics: tuple[str, ...] = parameter(
        "topics that must have been seen before an episode starts"
    )
    ignored_topics: tuple[str, ...] = parameter("topics that are not recorded")
    images: str = parameter(
        "how images are stored: as published, or each compressed on <topic>/<choice>; depth is "
        "never compressed",
        choices=("raw", "jpeg", "h264"),
    )
    start_timeout: float = parameter("s for the required topics to appear", low=0.5, high=120.0)
    tail: float = parameter("s (steady) recorded after the end of an episode", low=0.0, high=10.0)
    queue_bytes: int = parameter("bytes that may wait for the disk", low=1 << 20, high=1 << 33)
    preroll: float = parameter(
        "s before the start of an episode that its bag holds too; 0 = none", low=0.0, high=600.0
    )
    preroll_bytes: int = parameter(
        "bytes kept for it at most; the oldest go first", low=1 << 20, high=1 << 36
    )
    max_file_bytes: int = parameter(
        "size at which a bag's next file is begun; 0 = never", low=0, high=1 << 40
    )
    max_file_duration: float = parameter(
        "s after which a bag's next file is begun; 0 = never", low=0.0, high=86400.0
    )
    disk_warn_bytes: int = parameter(
        "free space of the folder's disk below which there is a warning", low=0, high=1 << 44
    )
    disk_stop_bytes: int = parameter(
        "free space below which no episode is begun and one under way is ended",
        low=0,
        high=1 << 44,
    )
    calibration_files: tuple[str, ...] = parameter(
        "files whose SHA-256 is stored with each episode, such as those of the cameras"
    )
    scan_period: float = parameter("s between looks for new topics", low=0.1, high=10.0)
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class TeleopConfig:
    """Parameters of teleop_node."""

    device: str = parameter("name of the device, in events and data; empty = that of the input")
    input: str = parameter(
        "a gamepad or SpaceMouse of this machine; a leader arm by its JointState on "
        "leader/joint_states; or what is published: sensor_msgs/Joy on joy, TwistStamped on "
        "teleop/twist or PoseStamped on teleop/pose; the latter two are held as long as they are "
        "published, at 20 Hz or more",
        choices=TELEOP_INPUTS,
    )
    speed: float = parameter("m/s of the tool at most", low=0.001, high=1.0)
    turning: float = parameter("rad/s of the tool at most", low=0.01, high=3.0)
    scale: float = parameter(
        "motion of the tool per motion of a pose device or a leader arm", low=0.01, high=10.0
    )
    jump: float = parameter("m between two poses that a tracker may not jump", low=0.001, high=1.0)
    jump_angle: float = parameter("rad, the same of its orientation", low=0.01, high=3.0)
    in_tool: bool = parameter(
        "a joy, gamepad or SpaceMouse moves along the axes of the tool, not of the base"
    )
    dead_zone: float = parameter("of their axes, that counts as 0", low=0.0, high=0.9)
    event_device: str = parameter(
        "which gamepad or SpaceMouse, or the pedal any key of which enables a leader arm: its path "
        "/dev/input/..., or a part of its name; empty = the first that fits, and a leader arm is "
        "enabled by the joy_enable_button of a sensor_msgs/Joy on joy"
    )
    unchanged_limit: float = parameter(
        "s that a gamepad or SpaceMouse may ask for a motion while nothing of it changes, as where "
        "its radio link is cut; 0 = for ever",
        low=0.0,
        high=60.0,
    )
    leader_urdf: str = parameter("path of the leader arm's URDF")
    leader_joint_names: tuple[str, ...] = parameter("joints of the leader arm")
    leader_base_frame: str = parameter("its link whose axes are those of the robot's base")
    leader_tool_frame: str = parameter("its link that moves the robot's tool")
    leader_gripper_joint: str = parameter("its joint that moves the gripper; empty = none")
    leader_gripper_closed: float = parameter(
        "rad or m of that joint that close the gripper", low=-10.0, high=10.0
    )
    leader_gripper_open: float = parameter(
        "rad or m of that joint that open it", low=-10.0, high=10.0
    )
    joy_axes: tuple[int, ...] = parameter(
        "axes for the tool's x, y, z and turns about them; -1 = none", low=-1, high=63
    )
    joy_enable_button: int = parameter("held while the arm shall move", low=0, high=63)
    joy_open_button: int = parameter("opens the gripper", low=0, high=63)
    joy_close_button: int = parameter("closes the gripper", low=0, high=63)
    max_opening: float = parameter("m between the finger pads", low=0.0, high=1.0)
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class ConsoleConfig:
    """Parameters of console_node."""

    port: int = parameter("TCP; 0 = any that is free", low=0, high=65535)
    lan: bool = parameter("serve HTTPS to the local network, not to this machine alone")
    speed: float = parameter("m/s of the tool at most", low=0.001, high=1.0)
    turning: float = parameter("rad/s of the tool at most", low=0.01, high=3.0)
    max_opening: float = parameter("m between the finger pads", low=0.0, high=1.0)
    recordings: str = parameter("folder whose episodes are shown; empty = none are")
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


@dataclass(frozen=True)
class LifecycleConfig:
    """Parameters of lifecycle_manager."""

    node_names: tuple[str, ...] = parameter("lifecycle nodes, in the order of their start")
    transition_timeout: float = parameter("s for one transition", low=0.5, high=600.0)
    period: float = parameter("s between looks at the nodes", low=0.1, high=10.0)
    diagnostics_rate: float = parameter("Hz", low=0.2, high=10.0)


SCHEMAS: dict[str, type] = {
    "camera_node": CameraConfig,
    "console_node": ConsoleConfig,
    "failure_node": FailureConfig,
    "gripper_node": GripperConfig,
    "lifecycle_manager": LifecycleConfig,
    "policy_node": PolicyConfig,
    "recorder_node": RecorderConfig,
    "sim_node": SimConfig,
    "supervisor_node": SupervisorConfig,
    "teleop_node": TeleopConfig,
}
