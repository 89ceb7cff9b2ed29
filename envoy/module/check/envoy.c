#define _GNU_SOURCE
#include "check.h"

#include <unistd.h>

bool pauses;
uint32_t pausing, schedulers;

static bool equal(text a, text b) { return a.n == b.n && !memcmp(a.at, b.at, a.n); }

bool ENVOY(http_get_header)(void *f, int kind, text name, text *value, size_t index, size_t *count) {
  const fake *r = f;
  const field *all = kind == REQUEST_HEADER ? r->headers : r->response;
  const size_t n = kind == REQUEST_HEADER ? r->count : r->response_count;
  *count = 0;
  for (size_t i = 0; i < n; i++)
    if (equal(all[i].name, name) && (*count)++ == index) *value = all[i].value;
  return *count > index;
}
size_t ENVOY(http_get_headers_size)(void *f, int kind) { return (void)kind, ((fake *)f)->count; }
bool ENVOY(http_get_headers)(void *f, int kind, field *all) {
  (void)kind;
  memcpy(all, ((fake *)f)->headers, ((fake *)f)->count * sizeof *all);
  return true;
}
bool ENVOY(http_set_header)(void *f, int kind, text name, text value) { return (void)f, (void)kind, (void)name, (void)value, true; }
bool ENVOY(http_add_header)(void *f, int kind, text name, text value) {
  (void)kind;
  fake *r = f;
  r->set++;
  for (size_t i = 0; i < r->count; i++)
    if (equal(r->headers[i].name, name)) FAIL("header %.*s was added to one of the same name", (int)name.n, name.at);
  for (size_t i = 0; i < value.n; i++)
    if (value.at[i] < ' ' || value.at[i] > '~') FAIL("a header got byte %d", value.at[i]);
  return true;
}
void ENVOY(http_set_dynamic_metadata_bool)(void *f, text space, text name, bool value) {
  (void)space, (void)name;
  ((fake *)f)->has_known = true;
  ((fake *)f)->known = value;
}
void ENVOY(http_set_dynamic_metadata_number)(void *f, text space, text name, double value) { (void)f, (void)space, (void)name, (void)value; }
void ENVOY(http_set_dynamic_metadata_string_batch)(void *f, text space, const field *all, size_t n) {
  (void)f, (void)space;
  volatile char sum = 0;
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < all[i].value.n; j++) sum += all[i].value.at[j];
  (void)sum;
}
bool ENVOY(http_get_metadata_string)(void *f, int from, text space, text name, text *value) {
  (void)space, (void)name;
  *value = from == OF_ROUTE ? ((fake *)f)->policy : ((fake *)f)->decision;
  return value->at;
}
bool ENVOY(http_get_metadata_bool)(void *f, int from, text space, text name, bool *value) {
  (void)from, (void)space, (void)name;
  *value = ((fake *)f)->known;
  return ((fake *)f)->has_known;
}
// The module asks for the address while it holds the table. Another process ends the
// table while the worker stands still here.
bool ENVOY(http_filter_get_attribute_string)(void *f, int attribute, text *value) {
  (void)f, (void)attribute;
  static const char *const addresses[] = {"127.0.0.1:4711", "[::1]:80", "[2001:db8:1:2:3:4:5:6]:1", "[]:1", "[:", ":", "", "1.2.3:4", "256.1.1.1:1", "1.2.3.4.5:1", "/run/envoy.sock", "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa]:1"};
  *value = TEXT("127.0.0.1:4711");
  if (chance() % 4 == 0) {
    const char *other = addresses[chance() % COUNT(addresses)];
    *value = (text){other, strlen(other)};
  }
  if (RELAXED(&pauses) && chance() % 64 == 0) {
    __atomic_fetch_add(&pausing, 1, __ATOMIC_RELAXED);
    usleep(50000);
  }
  return true;
}
void ENVOY(http_clear_route_cache)(void *f) { (void)f; }
void *ENVOY(http_filter_scheduler_new)(void *f) {
  __atomic_fetch_add(&schedulers, 1, __ATOMIC_RELAXED);
  fake **s = malloc(sizeof *s);
  *s = f;
  return s;
}
void ENVOY(http_filter_scheduler_commit)(void *s, uint64_t event) {
  fake *to = *(fake **)s;
  if (event == ASK) {
    __atomic_fetch_add(&to->asks, 1, __ATOMIC_RELAXED);
    return;
  }
  STORE(&to->end, event);
  __atomic_fetch_add(&to->ends, 1, __ATOMIC_RELEASE);
}
void ENVOY(http_filter_scheduler_delete)(void *s) {
  __atomic_fetch_sub(&schedulers, 1, __ATOMIC_RELAXED);
  free(s);
}
void ENVOY(http_filter_reset_stream)(void *f, int reason, text details) {
  (void)reason, (void)details;
  ((fake *)f)->reset = true;
}
bool ENVOY(is_validation_mode)(void) { return false; }
uint32_t ENVOY(get_concurrency)(void) { return 4; }

uint32_t complaints;
void ENVOY(log)(int level, text message) {
  (void)level;
  const text part = TEXT("demands uid=");
  if (memmem(message.at, message.n, part.at, part.n)) __atomic_fetch_add(&complaints, 1, __ATOMIC_RELAXED);
}
