# SPDX-License-Identifier: Apache-2.0
"""Installs the Python package with its checkpoint, and its index entry."""

from setuptools import find_packages, setup

setup(
    name="vla_policy",
    version="0.1.0",
    packages=find_packages(include=["vla_policy", "vla_policy.*"]),
    package_data={
        "vla_policy": [
            "py.typed",
            "checkpoints/*/*",
            "actions/contracts/*.yaml",
            "serving/openpi_servers/*.yaml",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_policy"]),
        ("share/vla_policy", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The maintainers",
    maintainer_email="maintainers@example.com",
    description="A small flow-matching vision-language-action policy",
    license="Apache-2.0",
)
