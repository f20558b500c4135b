# SPDX-License-Identifier: Apache-2.0
"""Installs the Python package and its index entry."""

from setuptools import setup

setup(
    name="vla_data",
    version="0.1.0",
    packages=["vla_data", "vla_data.lerobot", "vla_data.report"],
    package_data={"vla_data": ["py.typed"], "vla_data.report": ["viewer.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_data"]),
        ("share/vla_data", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The maintainers",
    maintainer_email="maintainers@example.com",
    description="Episodes as MCAP bags, observation contracts, synchronisation and reports",
    license="Apache-2.0",
)
