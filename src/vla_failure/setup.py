# SPDX-License-Identifier: Apache-2.0
"""Installs the Python package and its index entry."""

from setuptools import find_packages, setup

setup(
    name="vla_failure",
    version="0.1.0",
    packages=find_packages(include=["vla_failure", "vla_failure.*"]),
    package_data={"vla_failure": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_failure"]),
        ("share/vla_failure", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The maintainers",
    maintainer_email="maintainers@example.com",
    description="Failure detectors for vision-language-action policies",
    license="Apache-2.0",
)
