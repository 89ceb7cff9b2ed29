// The configuration of the filter in Envoy.
#pragma once

#include "attach.h"

typedef struct {
  source *source;
  bool metadata;          // write what ext_authz would have written for the access log
  bool streams;           // reset open streams whose token is revoked
  bool clear_route_cache; // as the setting of ext_authz with this name
} settings;

// settings_new reads "socket=PATH uid=NUMBER" and, after them, metadata, streams and
// clear_route_cache, each with =on or =off. It returns NULL and logs the reason if the
// configuration is faulty.
settings *settings_new(text value);
