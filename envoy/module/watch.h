// A request as the module keeps it, and the streams that the module watches.
#pragma once

#include "settings.h"
#include "streams.h"

#include <stdbool.h>

enum { MAX_HEADERS = 128 };

// The dynamic metadata of this module, and that of ext_authz.
#define KNOWN_SPACE "rescind"
#define KNOWN "known"
#define LOG_SPACE "envoy.filters.http.ext_authz"

// request is the state of one request, as long as its stream is open.
typedef struct {
  const settings *settings;
  stream *watched;
  bool unwatched; // counted as a stream that found no place
  uint32_t policy_size, token_size;
  char *texts; // of both; NULL: the request has no token, or streams are not watched
} request;

// header_list is all headers of a request, or none if there are more than the module
// looks at.
typedef struct {
  size_t n;
  bool too_many;
  field at[MAX_HEADERS];
} header_list;

// keep_texts copies the policy and the token, because a later filter may remove the
// header before the stream turns out to be one that is watched.
void keep_texts(request *r, text policy, text token);

// asks_for_stream reports whether the response may stay open: the request asks for an
// upgrade, for gRPC, or for server-sent events.
bool asks_for_stream(const header_list *headers);

// is_stream reports whether the response may stay open: an upgrade, a tunnel, gRPC,
// server-sent events, or a body without a length.
bool is_stream(void *filter);

// is_let_in reports whether the module or ext_authz has allowed the request.
bool is_let_in(void *filter);

// watch makes the replica hear of the stream once it is let in. A stream that waits
// and finds no place is not counted, because its response gives it another chance.
void watch(void *filter, request *r, int worker, bool let_in);
void unwatch(request *r);
