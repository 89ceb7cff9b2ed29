#define _GNU_SOURCE
#include "settings.h"
#include "log.h"

#include <stdlib.h>

static bool read_switch(bool *to, const char *value) {
  *to = !strcmp(value, "on");
  return *to || !strcmp(value, "off");
}

// read_uid reads a number by itself, because strtoul would bind the module to the
// newest glibc of the build machine (__isoc23_strtoul, 2.38).
static bool read_uid(uint32_t *to, const char *value) {
  uint64_t n = 0;
  for (const char *at = value; *at; at++) {
    if (*at < '0' || *at > '9' || n > UINT32_MAX) return false;
    n = n * 10 + (uint64_t)(*at - '0');
  }
  *to = (uint32_t)n;
  return *value && n < UINT32_MAX;
}

settings *settings_new(text value) {
  char line[512], *rest = line;
  const char *path = NULL;
  uint32_t uid = UINT32_MAX;
  settings s = {.metadata = true, .streams = true};
  if (value.n >= sizeof line || memchr(value.at, 0, value.n)) {
    say(LOG_ERROR, "rescind: the configuration of the filter is longer than %zu bytes, or no text", sizeof line - 1);
    return NULL;
  }
  memcpy(line, value.at, value.n);
  line[value.n] = 0;
  for (char *key; (key = strsep(&rest, " \n"));) {
    char *is = strchr(key, '=');
    if (!*key) continue;
    bool ok = is != NULL;
    if (is) *is++ = 0;
    if (ok && !strcmp(key, "socket")) path = is;
    else if (ok && !strcmp(key, "uid")) ok = read_uid(&uid, is);
    else if (ok && !strcmp(key, "metadata")) ok = read_switch(&s.metadata, is);
    else if (ok && !strcmp(key, "streams")) ok = read_switch(&s.streams, is);
    else if (ok && !strcmp(key, "clear_route_cache")) ok = read_switch(&s.clear_route_cache, is);
    else ok = false;
    if (!ok) {
      say(LOG_ERROR, "rescind: \"%.40s\" in the configuration of the filter is faulty; write socket=PATH uid=NUMBER, and metadata, streams, clear_route_cache with =on or =off", key);
      return NULL;
    }
  }
  if (!path || *path != '/' || uid == UINT32_MAX) {
    say(LOG_ERROR, "rescind: the configuration of the filter needs socket=PATH, an absolute path, and uid=NUMBER, the user of the replica");
    return NULL;
  }
  s.source = source_open(path, uid);
  settings *to = s.source ? malloc(sizeof *to) : NULL;
  if (!to) {
    say(LOG_ERROR, "rescind: the socket %.120s cannot be used: the path is too long, or there is no memory or thread to be had", path);
    return NULL;
  }
  *to = s;
  return to;
}
