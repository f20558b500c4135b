#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes requirements.lock: what requirements.in brings into an empty environment.
# Versions that the lock holds already are kept, unless the first argument is --upgrade.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
keep=()
if [ "${1:-}" != --upgrade ] && [ -f requirements.lock ]; then keep=(-c requirements.lock); fi

python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${keep[@]}" -r requirements.in
"$folder/bin/python" -m pip check
{
  echo "# Written by scripts/lock.sh from requirements.in."
  "$folder/bin/python" - <<'PYTHON'
from importlib.metadata import distributions

# Some wheels carry the metadata of the ROS package in them, which no installer has put there.
installed = {d.name: d.version for d in distributions() if d.read_text("INSTALLER") == "pip\n"}
for name in sorted(installed, key=str.lower):
    if name != "pip":
        # A wheel for CPU alone says so behind a plus sign; the registry's own has none.
        print(f"{name}=={installed[name].removesuffix('+cpu')}")
PYTHON
} >"$folder/lock"
mv "$folder/lock" requirements.lock
