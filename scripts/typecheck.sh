#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Strict mypy on every package that has no ROS in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folders=()
for folder in src/vla_{control/python/vla_control,sim/vla_sim,data/vla_data,policy/vla_policy,failure/vla_failure}; do
  if [ -d "$folder" ]; then folders+=("$folder"); fi
done
exec .venv/bin/mypy "${folders[@]}"
