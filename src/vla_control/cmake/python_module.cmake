# SPDX-License-Identifier: Apache-2.0
# The Python package vla_control: a nanobind module that is re-exported, and the joint moves.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
  OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
find_package(nanobind CONFIG QUIET)
if(NOT nanobind_FOUND)
  message(FATAL_ERROR "nanobind is not installed for ${Python_EXECUTABLE}; "
                      "install it (pip install nanobind) or set VLA_CONTROL_PYTHON=OFF")
endif()

nanobind_add_module(vla_control_python NB_STATIC NB_SUPPRESS_WARNINGS
  python/bind_controller.cpp
  python/bind_law.cpp
  python/bind_pieces.cpp
  python/bind_tracking.cpp
  python/bind_types.cpp
  python/module.cpp)
target_link_libraries(vla_control_python PRIVATE vla_control $<BUILD_INTERFACE:vla_control_flags>)
target_include_directories(vla_control_python PRIVATE src)
if(TARGET vla_control_collision)
  target_sources(vla_control_python PRIVATE python/bind_collision.cpp)
  target_link_libraries(vla_control_python PRIVATE vla_control_collision)
  target_compile_definitions(vla_control_python PRIVATE VLA_CONTROL_COLLISION)
endif()

set(python_install_dir lib/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}/site-packages)
# A package that can be imported from the build folder, for the tests.
set(python_build_dir ${CMAKE_CURRENT_BINARY_DIR}/python/vla_control)
set_target_properties(vla_control_python PROPERTIES
  OUTPUT_NAME _core
  LIBRARY_OUTPUT_DIRECTORY ${python_build_dir}
  INSTALL_RPATH "$ORIGIN/../../..")
foreach(file __init__.py _core.pyi joint_move.py py.typed)
  configure_file(python/vla_control/${file} ${python_build_dir}/${file} COPYONLY)
  install(FILES python/vla_control/${file} DESTINATION ${python_install_dir}/vla_control)
endforeach()
install(TARGETS vla_control_python LIBRARY DESTINATION ${python_install_dir}/vla_control)
