#define _GNU_SOURCE
#include "fits.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// The minor versions of Envoy that the tests of this module have run.
static const char *const tested[] = {"1.40."};

// run_version runs the program of this process with --version, and keeps the
// beginning of its output.
static bool run_version(char *out, size_t size) {
  int ends[2];
  pid_t child;
  char *arguments[] = {"envoy", "--version", NULL}, *environment[] = {NULL};
  if (pipe2(ends, O_CLOEXEC)) return false;
  sigset_t none;
  sigemptyset(&none);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const int failed = posix_spawn(&child, "/proc/self/exe", &files, &attributes, arguments, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  size_t n = 0;
  if (!failed) {
    for (ssize_t got; n < size - 1; n += (size_t)got) {
      got = read(ends[0], out + n, size - 1 - n);
      if (got < 0 && errno == EINTR) got = 0;
      else if (got <= 0) break;
    }
  }
  out[n] = 0;
  close(ends[0]);
  if (!failed)
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
  return !failed;
}

bool version_fits(const char *output) {
  const char *at = strstr(output, "version: ");
  at = at ? strchr(at, '/') : NULL;
  for (size_t i = 0; at && i < sizeof tested / sizeof *tested; i++)
    if (!strncmp(at + 1, tested[i], strlen(tested[i]))) return true;
  return false;
}

static bool has_all_callbacks(void) {
  return ENVOY(http_get_header) && ENVOY(http_get_headers_size) && ENVOY(http_get_headers) && ENVOY(http_add_header) && ENVOY(http_set_header) &&
         ENVOY(http_set_dynamic_metadata_bool) && ENVOY(http_set_dynamic_metadata_number) && ENVOY(http_set_dynamic_metadata_string_batch) &&
         ENVOY(http_get_metadata_string) && ENVOY(http_get_metadata_bool) && ENVOY(http_filter_get_attribute_string) &&
         ENVOY(http_clear_route_cache) && ENVOY(http_filter_scheduler_new) && ENVOY(http_filter_scheduler_commit) &&
         ENVOY(http_filter_scheduler_delete) && ENVOY(http_filter_reset_stream) && ENVOY(is_validation_mode) && ENVOY(get_concurrency);
}

bool module_fits(void) {
  char output[512];
  if (!has_all_callbacks() || !run_version(output, sizeof output) || !version_fits(output)) {
    say(LOG_ERROR, "rescind: this module was built for Envoy %sx and is not used with another one; install the module for your Envoy", tested[0]);
    return false;
  }
  return true;
}
