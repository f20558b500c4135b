# SPDX-License-Identifier: Apache-2.0
# Sourced, in bash: the environment of pip ROS, of the built workspace and of the tools in .venv.
# Values that are set already win, except the search paths, which are put in front once.

_vla_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_vla_venv="$_vla_root/.venv"

if [ -n "${ROS_DISTRO:-}" ]; then
  echo "env.sh: the ROS distribution '$ROS_DISTRO' is sourced here and does not mix with the wheels." >&2
  echo "Use plain 'colcon build' and 'source install/setup.bash', or a shell without it." >&2
  return 1
fi
if [ ! -x "$_vla_venv/bin/python" ]; then
  echo "env.sh: $_vla_venv is missing; run 'make build' first" >&2
  return 1
fi

_vla_prepend() { # variable, path: puts the path in front unless it is already there
  case ":${!1-}:" in
    *":$2:"*) ;;
    *) export "$1=$2${!1:+:${!1}}" ;;
  esac
}

_vla_site="$(echo "$_vla_venv"/lib/python3.*/site-packages)"
for _vla_libs in "$_vla_site"/ros_*.libs; do
  _vla_prepend LD_LIBRARY_PATH "$_vla_libs"
done
_vla_prepend LD_LIBRARY_PATH "$_vla_venv/lib"
_vla_prepend CMAKE_PREFIX_PATH "$_vla_site/cmeel.prefix"
_vla_prepend CMAKE_PREFIX_PATH "$_vla_venv"
_vla_prepend AMENT_PREFIX_PATH "$_vla_venv"
_vla_prepend PATH "$_vla_venv/bin"

# The wheels re-execute Python to set the library path, unless told that it is set.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

# DDS stays on this machine; see config/fastdds.xml. Fast DDS 2 and 3 call the variable differently.
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$_vla_root/config/fastdds.xml}"
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$FASTDDS_DEFAULT_PROFILES_FILE}"
export ROS_LOG_DIR="${ROS_LOG_DIR:-$_vla_root/log/ros}"

# Off-screen rendering needs no display.
export MUJOCO_GL="${MUJOCO_GL:-egl}"

# shellcheck disable=SC1091
if [ -f "$_vla_root/install/local_setup.bash" ]; then
  # colcon's scripts read variables that may be unset.
  case $- in *u*) _vla_nounset=1; set +u ;; *) _vla_nounset= ;; esac
  . "$_vla_root/install/local_setup.bash"
  if [ -n "$_vla_nounset" ]; then set -u; fi
fi

unset -f _vla_prepend
unset _vla_root _vla_venv _vla_site _vla_libs _vla_nounset
