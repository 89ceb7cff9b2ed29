#pragma once

#include <stdbool.h>

// module_fits reports whether this module was built for the Envoy that loads it, and
// logs the reason if not. Envoy itself warns of another version, and loads the module
// all the same.
bool module_fits(void);

// version_fits reports whether an Envoy with this output of --version is one that the
// tests have run: "envoy  version: HASH/1.40.0/Clean/RELEASE/BoringSSL".
bool version_fits(const char *output);
