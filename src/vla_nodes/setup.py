# SPDX-License-Identifier: Apache-2.0
"""Installs the nodes under lib/vla_nodes and the command `vla` under bin."""

from setuptools import find_packages, setup

NODES = (
    "camera_node",
    "console_node",
    "failure_node",
    "gripper_node",
    "lifecycle_manager",
    "policy_node",
    "recorder_node",
    "sim_node",
    "supervisor_node",
    "teleop_node",
)

setup(
    name="vla_nodes",
    version="0.1.0",
    packages=find_packages(include=["vla_nodes", "vla_nodes.*"]),
    package_data={
        "vla_nodes": ["defaults/*.yaml"],
        "vla_nodes.console": ["page/*", "page/assets/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_nodes"]),
        ("share/vla_nodes", ["package.xml"]),
        ("bin", ["scripts/vla"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The maintainers",
    maintainer_email="maintainers@example.com",
    description="Thin ROS 2 nodes around the suite's cores, and the vla command line",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [f"{node} = vla_nodes.{node}:main" for node in NODES],
    },
)
