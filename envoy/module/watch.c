#define _GNU_SOURCE
#include "watch.h"

#include <stdlib.h>
#include <strings.h>

void keep_texts(request *r, text policy, text token) {
  r->texts = malloc(policy.n + token.n);
  if (!r->texts) return;
  memcpy(r->texts, policy.at, policy.n);
  memcpy(r->texts + policy.n, token.at, token.n);
  r->policy_size = (uint32_t)policy.n;
  r->token_size = (uint32_t)token.n;
}

static bool begins(text value, const char *with) { return value.n >= strlen(with) && !strncasecmp(value.at, with, strlen(with)); }

// accepts reports whether a list of media types names this one.
static bool accepts(text list, const char *type) {
  while (list.n) {
    if (*list.at != ' ' && *list.at != '\t') {
      if (begins(list, type)) return true;
      const char *comma = memchr(list.at, ',', list.n);
      if (!comma) return false;
      list.n -= (size_t)(comma - list.at);
      list.at = comma;
    }
    list.at++, list.n--;
  }
  return false;
}

static bool is(text name, const char *other) { return name.n == strlen(other) && !memcmp(name.at, other, name.n); }

bool asks_for_stream(const header_list *headers) {
  for (size_t i = 0; i < headers->n; i++) {
    const text name = headers->at[i].name, value = headers->at[i].value;
    if (is(name, "upgrade") || (is(name, "content-type") && begins(value, "application/grpc")) ||
        (is(name, "accept") && accepts(value, "text/event-stream"))) return true;
  }
  return headers->too_many; // a doubt
}

bool is_stream(void *filter) {
  text value;
  size_t count;
  if (!ENVOY(http_get_header)(filter, RESPONSE_HEADER, TEXT("content-length"), &value, 0, &count)) return true;
  if (ENVOY(http_get_header)(filter, RESPONSE_HEADER, TEXT("content-type"), &value, 0, &count)) return begins(value, "application/grpc") || begins(value, "text/event-stream");
  return ENVOY(http_get_header)(filter, RESPONSE_HEADER, TEXT(":status"), &value, 0, &count) && begins(value, "101");
}

bool is_let_in(void *filter) {
  bool known = false;
  text decision;
  if (ENVOY(http_get_metadata_bool)(filter, OF_STREAM, TEXT(KNOWN_SPACE), TEXT(KNOWN), &known) && known) return true;
  return ENVOY(http_get_metadata_string)(filter, OF_STREAM, TEXT(LOG_SPACE), TEXT("decision"), &decision) && is(decision, "allow");
}

// count_unwatched counts a stream for which there is no place, once.
static void count_unwatched(request *r, int worker) {
  const attachment *a = r->unwatched ? NULL : attachment_hold(r->settings->source, worker);
  r->unwatched = true;
  if (!a) return;
  worker_ring *ring = ring_of(a, worker);
  STORE(&ring->unwatched, RELAXED(&ring->unwatched) + 1);
  attachment_release(worker);
}

void watch(void *filter, request *r, int worker, bool let_in) {
  streams *s = source_streams(r->settings->source);
  if (r->watched) {
    if (let_in) streams_let_in(s, r->watched);
    return;
  }
  void *scheduler = ENVOY(http_filter_scheduler_new)(filter);
  r->watched = streams_add(s, (text){r->texts, r->policy_size}, (text){r->texts + r->policy_size, r->token_size}, scheduler, let_in);
  if (r->watched) return;
  ENVOY(http_filter_scheduler_delete)(scheduler);
  if (let_in) count_unwatched(r, worker);
}

void unwatch(request *r) {
  if (r->watched) streams_remove(source_streams(r->settings->source), r->watched);
  r->watched = NULL;
}
