// The module as Envoy sees it. It answers for tokens that the replica has put into
// its table, and leaves everything else to the ext_authz filter behind it. It never
// denies: every doubt is a miss.
//
// A request that the module answered has the dynamic metadata {rescind: {known:
// true}}, and ext_authz is disabled for such requests (filter_enabled_metadata).
#define _GNU_SOURCE
#include "answer.h"
#include "entry.h"
#include "fits.h"
#include "log.h"
#include "watch.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

enum { MAX_TOKEN = 16 << 10, ID_SIZE = 26 };

static const text POLICY = TEXT("policy");

// worker is the state of a thread of Envoy.
static __thread struct {
  bool begun;
  int slot; // -1: there are more workers than slots
  key128 secret;
  uint64_t ids;
} worker;

static void begin_worker(void) {
  static uint32_t given;
  const uint32_t slot = __atomic_fetch_add(&given, 1, __ATOMIC_RELAXED);
  worker.slot = slot < MAX_WORKERS && getrandom(&worker.secret, sizeof worker.secret, 0) == sizeof worker.secret ? (int)slot : -1;
  worker.begun = true;
}

static key128 new_id(void) {
  worker.ids++;
  return siphash((const char *)&worker.ids, sizeof worker.ids, worker.secret);
}

// ---- the module and its configurations ----

HOOK const char *envoy_dynamic_module_on_program_init(void) { return module_fits() ? "v0.2.0" : NULL; }

HOOK const void *envoy_dynamic_module_on_http_filter_config_new(void *envoy, text filter, text value) {
  (void)envoy, (void)filter;
  return settings_new(value);
}

HOOK void envoy_dynamic_module_on_http_filter_config_destroy(const void *s) { free((void *)s); }

// A policy stands in the metadata of a route alone, so that it stands nowhere twice.
HOOK const void *envoy_dynamic_module_on_http_filter_per_route_config_new(text filter, text value) {
  (void)filter, (void)value;
  say(LOG_ERROR, "rescind: the module takes no configuration of a route; name the policy in the route's metadata, as {rescind: {policy: NAME}}");
  return NULL;
}

HOOK void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *s) { (void)s; }

HOOK const void *envoy_dynamic_module_on_http_filter_new(const void *s, void *filter) {
  (void)filter;
  request *r = calloc(1, sizeof *r); // NULL makes Envoy deny the request
  if (r) r->settings = s;
  return r;
}

// ---- the request ----

static char lax(char c) {
  if (c >= 'A' && c <= 'Z') return (char)(c + 'a' - 'A');
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-';
}

// same reports whether the first n characters of two header names are the same to
// the laxest server, as authz.LaxName describes it.
static bool same(const char *a, const char *b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (lax(a[i]) != lax(b[i])) return false;
  return true;
}

// owns reports whether the replica would have to remove a header of this name, or
// could have to.
static bool owns(const attachment *a, text header) {
  if (header.n >= a->prefix.n && same(header.at, a->prefix.text, a->prefix.n)) return true;
  for (int i = 0; i < a->names; i++)
    if (header.n == a->header[i].n && same(header.at, a->header[i].text, header.n)) return true;
  const text authorization = TEXT("authorization");
  return a->hide_authorization && header.n == authorization.n && same(header.at, authorization.at, header.n) &&
         memcmp(header.at, authorization.at, header.n) != 0;
}

static void read_headers(header_list *to, void *filter) {
  to->n = ENVOY(http_get_headers_size)(filter, REQUEST_HEADER);
  to->too_many = to->n > MAX_HEADERS || !ENVOY(http_get_headers)(filter, REQUEST_HEADER, to->at);
  if (to->too_many) to->n = 0;
}

static bool clean(const header_list *headers, const attachment *a) {
  for (size_t i = 0; i < headers->n; i++)
    if (owns(a, headers->at[i].name)) return false;
  return !headers->too_many;
}

// find_authorization returns the value of the only Authorization header. The headers are
// there already, so Envoy is asked for the header only if there are too many of them.
static bool find_authorization(void *filter, const header_list *headers, text *value) {
  const text name = TEXT("authorization");
  size_t count = 0;
  if (headers->too_many) return ENVOY(http_get_header)(filter, REQUEST_HEADER, name, value, 0, &count) && count == 1;
  for (size_t i = 0; i < headers->n; i++) {
    const field *one = &headers->at[i];
    if (one->name.n != name.n || memcmp(one->name.at, name.at, name.n)) continue;
    *value = one->value;
    count++;
  }
  return count == 1;
}

// find_token returns the token of the only Authorization header, if the header has
// the form that most have. Everything else is for the replica to judge.
static bool find_token(void *filter, const header_list *headers, text *token) {
  const text scheme = TEXT("Bearer ");
  text value = {0};
  if (!find_authorization(filter, headers, &value)) return false;
  if (value.n <= scheme.n || value.n > MAX_TOKEN || strncasecmp(value.at, scheme.at, scheme.n) != 0) return false;
  size_t at = scheme.n;
  while (at < value.n && value.at[at] == ' ') at++;
  *token = (text){value.at + at, value.n - at};
  return token->n > 0;
}

static int find_policy(const attachment *a, text name) {
  for (int i = 0; i < a->policies; i++)
    if (a->policy[i].n == name.n && !memcmp(a->policy[i].text, name.at, name.n)) return i;
  return -1;
}

// find_entry copies the entry of a key. It returns a MISS if there is none.
static int find_entry(entry *to, const attachment *a, key128 key, int policy, time_t now) {
  const uint64_t epoch = ACQUIRE(&a->head->epoch), tag = key.word[0] ^ key.word[1];
  for (int half = 0; half < 2; half++) {
    const bucket *b = &a->index[key.word[half] & a->bucket_mask];
    for (size_t i = 0; i < sizeof b->slot / sizeof *b->slot; i++) {
      if (ACQUIRE(&b->slot[i].tag) != tag) continue;
      const uint64_t number = ACQUIRE(&b->slot[i].entry) - 1;
      if (number >= a->entry_count) continue;
      to->number = number;
      const int miss = entry_read(to, a->entries + number * a->entry_words, a->entry_words, key, (uint64_t)policy, epoch, (uint64_t)now);
      if (miss != MISS_UNKNOWN) return miss;
    }
  }
  return MISS_UNKNOWN;
}

static void write_log(void *filter, const attachment *a, const answer *to, text policy, key128 id) {
  char letters[ID_SIZE];
  uint64_t low = id.word[0], high = id.word[1];
  for (int i = 0; i < ID_SIZE; i++) {
    letters[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[low & 31];
    low = low >> 5 | high << 59, high >>= 5;
  }
  const field members[] = {
      {TEXT("decision_id"), {letters, ID_SIZE}},
      {TEXT("decision"), TEXT("allow")},
      {TEXT("reason"), TEXT("ok")},
      {POLICY, policy},
      {TEXT("issuer"), to->named[ITEM_ISSUER]},
      {TEXT("subject"), to->named[ITEM_SUBJECT]},
      {TEXT("token_id"), to->named[ITEM_TOKEN_ID]},
  };
  field all[sizeof members / sizeof *members];
  memcpy(all, members, sizeof all);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (!all[i].value.at) all[i].value.at = "";
  ENVOY(http_set_dynamic_metadata_string_batch)(filter, TEXT(LOG_SPACE), all, sizeof all / sizeof *all);
  ENVOY(http_set_dynamic_metadata_number)(filter, TEXT(LOG_SPACE), TEXT("revision"), (double)ACQUIRE(&a->head->revision));
}

// read_ip4 reads an address such as 10.1.2.3. It returns false for anything else.
static bool read_ip4(uint8_t ip[4], const char *at, const char *end) {
  for (int part = 0; part < 4; part++) {
    unsigned value = 0;
    const char *begin = at;
    while (at < end && *at >= '0' && *at <= '9' && at - begin < 3) value = value * 10 + (unsigned)(*at++ - '0');
    if (at == begin || value > 255 || (part < 3 && (at == end || *at++ != '.'))) return false;
    ip[part] = (uint8_t)value;
  }
  return at == end;
}

// take_ip writes the client's address into c, if Envoy names it as HOST:PORT.
static void take_ip(void *filter, cell *c) {
  text at;
  if (!ENVOY(http_filter_get_attribute_string)(filter, SOURCE_ADDRESS, &at)) return;
  const char *colon = memrchr(at.at, ':', at.n);
  if (!colon) return;
  if (at.at[0] != '[') {
    c->address = read_ip4(c->ip + 12, at.at, colon) ? 4 : 0;
    c->ip[10] = c->ip[11] = 0xff;
    return;
  }
  char host[INET6_ADDRSTRLEN] = {0};
  const char *begin = at.at + 1, *end = colon - 1; // of the address between the brackets
  if (end < begin || *end != ']' || end - begin >= INET6_ADDRSTRLEN) return;
  memcpy(host, begin, (size_t)(end - begin));
  c->address = inet_pton(AF_INET6, host, c->ip) == 1 ? 6 : 0;
}

static void record(void *filter, const attachment *a, worker_ring *r, const entry *e, int policy, key128 id, const struct timespec *now) {
  STORE(&r->hits, RELAXED(&r->hits) + 1);
  // A byte that is set is only read, so that workers do not fight for its cache line.
  if (!RELAXED(&a->used[e->number])) STORE(&a->used[e->number], 1);
  const uint64_t tail = RELAXED(&r->tail);
  if (tail - ACQUIRE(&r->head) >= a->cells) {
    STORE(&r->drops, RELAXED(&r->drops) + 1);
    return;
  }
  cell c = {
      .time = (uint64_t)now->tv_sec * 1000000000 + (uint64_t)now->tv_nsec,
      .entry = e->number, .sequence = e->sequence, .policy = (uint32_t)policy, .worker = (uint8_t)worker.slot,
      .id = {id.word[0], id.word[1]},
  };
  take_ip(filter, &c);
  ((cell *)(r + 1))[tail & (a->cells - 1)] = c;
  RELEASE(&r->tail, tail + 1);
}

// decide answers the request if its token is known. It returns a MISS otherwise.
static int decide(void *filter, const settings *s, const attachment *a, const header_list *headers, text policy_name, text token) {
  if (!source_alive(s->source) || ACQUIRE(&a->head->open) != 1) return MISS_CLOSED;
  const int policy = find_policy(a, policy_name);
  if (policy < 0 || !token.at) return MISS_REQUEST;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  entry e;
  const int miss = find_entry(&e, a, siphash(token.at, token.n, a->secret[policy]), policy, now.tv_sec);
  if (miss >= 0) return miss;
  answer to;
  if (!answer_read(&to, (const char *)e.answer, e.size, a->names)) return MISS_ANSWER;
  if (!clean(headers, a)) return MISS_REQUEST;
  const key128 id = new_id();
  const uint64_t audit = ACQUIRE(&a->head->audit);
  if (audit && id.word[1] % audit == 0) return MISS_AUDIT;

  // From here on the request changes. ext_authz sets the same headers if it is asked
  // after all. A clean request has none of these headers, so they are added, which costs
  // Envoy a third of setting them.
  for (int i = 0; i < a->names; i++)
    if (to.set[i].at && !ENVOY(http_add_header)(filter, REQUEST_HEADER, (text){a->header[i].text, a->header[i].n}, to.set[i])) return MISS_ANSWER;
  if (a->hide_authorization && !ENVOY(http_set_header)(filter, REQUEST_HEADER, TEXT("authorization"), (text){0})) return MISS_ANSWER;
  if (s->metadata) write_log(filter, a, &to, policy_name, id);
  if (s->clear_route_cache) ENVOY(http_clear_route_cache)(filter);
  ENVOY(http_set_dynamic_metadata_bool)(filter, TEXT(KNOWN_SPACE), TEXT(KNOWN), true);
  record(filter, a, ring_of(a, worker.slot), &e, policy, id, &now);
  return -1;
}

// ---- the events of a request ----

// is_known answers the request if its token is known, and counts the reason if not.
static bool is_known(void *filter, const settings *s, const header_list *headers, text policy, text token) {
  const attachment *a = attachment_hold(s->source, worker.slot);
  if (!a) return false;
  const int miss = decide(filter, s, a, headers, policy, token);
  if (miss >= 0) {
    uint64_t *count = &ring_of(a, worker.slot)->misses[miss];
    STORE(count, RELAXED(count) + 1);
  }
  attachment_release(worker.slot);
  return miss < 0;
}

// look answers the request if its token is known, and watches it if it asks for a stream.
static bool look(void *filter, request *r) {
  const settings *s = r->settings;
  text policy = {0}, token = {0};
  if (worker.slot < 0 || !ENVOY(http_get_metadata_string)(filter, OF_ROUTE, TEXT(KNOWN_SPACE), POLICY, &policy)) return false;
  header_list headers;
  read_headers(&headers, filter);
  if (find_token(filter, &headers, &token) && s->streams) keep_texts(r, policy, token);
  const bool may_stream = r->texts && asks_for_stream(&headers);
  const bool known = is_known(filter, s, &headers, policy, token);
  if (may_stream) watch(filter, r, worker.slot, known);
  return known;
}

HOOK int envoy_dynamic_module_on_http_filter_request_headers(void *filter, const void *state, bool last) {
  (void)last;
  if (!worker.begun) begin_worker();
  if (look(filter, (request *)state)) return CONTINUE;

  // Only this module may say that a request is known. An earlier filter, or an
  // earlier round of the same request, spoke about something else.
  bool known;
  if (ENVOY(http_get_metadata_bool)(filter, OF_STREAM, TEXT(KNOWN_SPACE), TEXT(KNOWN), &known)) ENVOY(http_set_dynamic_metadata_bool)(filter, TEXT(KNOWN_SPACE), TEXT(KNOWN), false);
  return CONTINUE;
}

HOOK int envoy_dynamic_module_on_http_filter_response_headers(void *filter, const void *state, bool last) {
  request *r = (request *)state;
  if (!r->texts) return CONTINUE;
  if (last || !is_stream(filter)) {
    unwatch(r); // an ordinary answer, although the request asked for a stream
  } else if (is_let_in(filter)) {
    watch(filter, r, worker.slot, true);
  }
  return CONTINUE;
}

HOOK void envoy_dynamic_module_on_http_filter_scheduled(void *filter, const void *state, uint64_t event) {
  request *r = (request *)state;
  if (!r->watched) return;
  if (event != ASK) {
    ENVOY(http_filter_reset_stream)(filter, LOCAL_RESET, TEXT("rescind_revoked"));
  } else if (is_let_in(filter)) {
    watch(filter, r, worker.slot, true);
  }
}

HOOK void envoy_dynamic_module_on_http_filter_destroy(const void *state) {
  request *r = (request *)state;
  unwatch(r);
  free(r->texts);
  free(r);
}

// ---- events that mean nothing here ----

HOOK int envoy_dynamic_module_on_http_filter_request_body(void *f, const void *s, bool last) { return (void)f, (void)s, (void)last, CONTINUE; }
HOOK int envoy_dynamic_module_on_http_filter_request_trailers(void *f, const void *s) { return (void)f, (void)s, CONTINUE; }
HOOK int envoy_dynamic_module_on_http_filter_response_body(void *f, const void *s, bool last) { return (void)f, (void)s, (void)last, CONTINUE; }
HOOK int envoy_dynamic_module_on_http_filter_response_trailers(void *f, const void *s) { return (void)f, (void)s, CONTINUE; }
HOOK void envoy_dynamic_module_on_http_filter_stream_complete(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_http_callout_done(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_http_stream_headers(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_http_stream_data(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_http_stream_trailers(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_http_stream_complete(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_http_stream_reset(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(void *f, const void *s) { (void)f, (void)s; }
HOOK void envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(void *f, const void *s) { (void)f, (void)s; }
