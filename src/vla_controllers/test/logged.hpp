// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <rcutils/logging.h>

#include <cstdarg>
#include <cstdio>
#include <string>

namespace vla_controllers::testing {

inline std::string logged;  // NOLINT: what the logger was told since the last clear()

inline void keep(const rcutils_log_location_t*, int, const char*, rcutils_time_point_value_t,
                 const char* format, va_list* arguments) {
  char line[4096];
  va_list copy;
  va_copy(copy, *arguments);
  (void)vsnprintf(line, sizeof line, format, copy);
  va_end(copy);
  logged += line;
  logged += '\n';
}

/// From now on the logger writes into `logged`.
inline void keep_log() { rcutils_logging_set_output_handler(&keep); }

}  // namespace vla_controllers::testing
