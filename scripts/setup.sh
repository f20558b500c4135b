#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the suite needs: Debian packages and a virtual environment with pinned wheels.
# Does nothing, in a moment, when all of it is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# --- Debian packages -----------------------------------------------------------------------------
# g++ and the Python headers compile; urdfdom's headers are what pinocchio's CMake package asks for;
# the EGL and Mesa libraries render off-screen.
packages=(g++ liburdfdom-headers-dev libegl1 libgl1-mesa-dri)

python=""
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    python="$candidate"
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup: the ROS 2 wheels need Python 3.11, 3.12 or 3.13, and none was found; install one, or name it: PYTHON=... make" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then packages+=(python3-venv); fi
if ! "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; then
  packages+=(python3-dev)
fi

if command -v dpkg-query >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      missing+=("$package")
    fi
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
      echo "setup: some Debian packages are missing. Install them, then run make again:" >&2
      echo "  sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
      exit 1
    fi
    echo "Installing ${missing[*]} ..."
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  fi
fi

# --- virtual environment -------------------------------------------------------------------------
exec 8<scripts/setup.sh
flock 8

stamp=.venv/.complete
# The folder's own path counts: a virtual environment cannot be moved.
fingerprint="$( (cat requirements.lock scripts/setup.sh scripts/patch_wheels.py && pwd) | sha256sum | cut -d' ' -f1)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then
  exit 0
fi
rm -f "$stamp"

echo "Setting up .venv with $("$python" --version) (some minutes and 4 GB the first time) ..."
if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! grep -qxF "$PWD/.venv" .venv/.prefix 2>/dev/null; then
  "$python" -m venv --clear .venv
  # Without the first, colcon would look for packages among the wheels; without the second, it warns
  # that the prefix is not one of its own.
  touch .venv/COLCON_IGNORE .venv/local_setup.sh
  echo "$PWD/.venv" >.venv/.prefix
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
# A client that the policy server is tested with; it asks for an older NumPy than it works with.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps openpi-client==0.1.2
.venv/bin/python scripts/patch_wheels.py
ln -sf ../../scripts/vla .venv/bin/vla
echo "$fingerprint" >"$stamp"
