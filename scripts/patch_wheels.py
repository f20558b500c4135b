# SPDX-License-Identifier: Apache-2.0
"""Makes the CMake packages of the ROS 2 wheels point at this Python.

The wheels' exports carry the include folders of the machine that built them; a build against them
fails with a missing folder. Run with the Python of the virtual environment; doing it twice is
harmless.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

FOREIGN_NUMPY = re.compile(r"/opt/(?:_internal|python)/[^;\"\s]*/numpy/(?:_?core)/include")
FOREIGN_PYTHON = re.compile(r"/opt/(?:_internal|python)/[^;\"\s]*/include/python3\.\d+")


def patch(prefix: Path) -> list[Path]:
    """Rewrites the foreign include folders under ``prefix`` and returns the files changed.

    Raises:
        RuntimeError: A file still names a folder of the machine that built it.
    """
    python_include = sysconfig.get_path("include")
    changed = []
    for path in sorted(prefix.glob("share/*/cmake/*.cmake")):
        text = path.read_text(encoding="utf-8")
        new = FOREIGN_NUMPY.sub(numpy.get_include(), text)
        new = FOREIGN_PYTHON.sub(python_include, new)
        if re.search(r"/opt/(_internal|python)/", new):
            raise RuntimeError(f"{path}: names a folder that is not on this machine")
        if new != text:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        sys.exit("Python.h is missing; install the headers of this Python (Debian: python3-dev)")
    print(f"patched {len(patch(Path(sys.prefix)))} CMake files of the ROS 2 wheels")
