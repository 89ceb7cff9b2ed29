// say writes a line to Envoy's log.
#pragma once

#include "abi.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 2, 3))) static inline void say(int level, const char *format, ...) {
  char line[400];
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (n > 0 && ENVOY(log)) ENVOY(log)(level, (text){line, n < (int)sizeof line ? (size_t)n : sizeof line - 1});
}
