// The check of the version of Envoy. This program is the Envoy that is asked.
#define _GNU_SOURCE
#include "check.h"
#include "../fits.h"

#include <unistd.h>

// version_file returns the file that has the output of `check --version`.
static const char *version_file(pid_t of) {
  static char path[64];
  snprintf(path, sizeof path, "/tmp/rescind-check-%d.version", of);
  return path;
}

// answer_version prints the version as the parent wants it.
int answer_version(void) {
  FILE *f = fopen(version_file(getppid()), "re");
  if (!f) return 1;
  char bytes[4096];
  for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;)
    if (fwrite(bytes, 1, n, stdout) < n) return 1;
  return 0;
}

// fits writes an output of so many bytes, the text and then filler, and asks.
static bool fits(const char *output, size_t filler) {
  const char *path = version_file(getpid());
  FILE *f = fopen(path, "we");
  if (!f || fputs(output, f) < 0) FAIL("%s cannot be written", path);
  for (size_t i = 0; i < filler; i++) fputc('x', f);
  fclose(f);
  const bool got = module_fits();
  unlink(path);
  return got;
}

void test_versions(void) {
  const struct {
    const char *output;
    size_t filler;
    bool fits;
  } rows[] = {
      {"\nenvoy  version: 6a2e/1.40.0/Clean/RELEASE/BoringSSL\n\n", 0, true},
      {"check  version: 6a2e/1.40.7-dev/Modified/DEBUG/BoringSSL", 0, true},
      {"envoy  version: 6a2e/1.40.0/Clean/RELEASE/BoringSSL", 1 << 20, true}, // more than is read
      {"envoy  version: 6a2e/1.4.0/Clean/RELEASE/BoringSSL", 0, false},
      {"envoy  version: 6a2e/1.400.0/Clean/RELEASE/BoringSSL", 0, false},
      {"envoy  version: 6a2e/1.40", 0, false},
      {"envoy  version: 6a2e/11.40.0/Clean", 0, false},
      {"envoy  version: 6a2e/1.39.4/Clean/RELEASE/BoringSSL", 0, false},
      {"envoy  version: 6a2e/1.41.0/Clean/RELEASE/BoringSSL", 0, false},
      {"envoy  version: 1.40.0", 0, false},
      {"version: /1.39.0/1.40.0/", 0, false},
      {"/1.40.0/", 0, false},
      {"version: ", 0, false},
      {"", 1 << 20, false},
      {"", 0, false},
  };
  for (size_t i = 0; i < COUNT(rows); i++)
    if (fits(rows[i].output, rows[i].filler) != rows[i].fits) FAIL("an Envoy that prints \"%s\" and %zu bytes more: got %d", rows[i].output, rows[i].filler, !rows[i].fits);
  if (module_fits()) FAIL("an Envoy that prints no version fits");
}
