#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the colcon workspace on pip ROS, unless nothing has changed since the last good build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
# shellcheck source=scripts/env.sh
. scripts/env.sh

# Two builds at a time would write into each other's folders.
exec 9<scripts/build.sh
flock 9

stamp=install/.complete
fingerprint="$(python scripts/fingerprint.py .venv/.complete colcon.meta scripts/build.sh src urdf launch config compat)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then
  exit 0
fi
rm -f "$stamp"

paths=(src)
if [ -d urdf ]; then paths+=(urdf); fi
if [ -d launch ]; then paths+=(launch); fi
for folder in compat/*/; do
  if [ ! -d ".venv/share/$(basename "$folder")" ]; then paths+=("${folder%/}"); fi
done

echo "Building the workspace ..."
mkdir -p log
jobs="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
# With MAKEFLAGS set, colcon does not hold jobs back while the machine has other work.
if ! CMAKE_BUILD_PARALLEL_LEVEL="$jobs" MAKEFLAGS="-j$jobs" \
  colcon --log-base log/colcon build \
  --base-paths "${paths[@]}" \
  --merge-install --symlink-install \
  --executor sequential --continue-on-error \
  --event-handlers console_cohesion- console_stderr- console_start_end+ summary- \
  --cmake-args -G Ninja -Wno-unused-cli \
  "-DPython_EXECUTABLE=$PWD/.venv/bin/python" "-DPython3_EXECUTABLE=$PWD/.venv/bin/python" 2>&1 | tee log/build.txt; then
  for package in $(sed -n 's/^Failed *<<< \([a-z0-9_]*\).*/\1/p' log/build.txt); do
    echo "--- $package ---" >&2
    tail -n 60 "log/colcon/latest_build/$package/stdout_stderr.log" >&2
  done
  exit 1
fi
# A package that cannot be built here says so at configuration, which is not shown above.
for log in log/colcon/latest_build/*/stdout.log; do
  if [ -f "$log" ]; then sed -n 's/^-- \([a-z0-9_]* is skipped: .*\)/\1/p' "$log"; fi
done
echo "$fingerprint" >"$stamp"
