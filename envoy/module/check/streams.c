// Open streams: the requests that are watched, and the reports to the replica.
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static field header(const char *name, const char *value) { return (field){{name, strlen(name)}, {value, strlen(value)}}; }

static void test_requests(void) {
  const struct {
    const char *name, *value;
    bool stream;
  } rows[] = {
      {"upgrade", "websocket", true}, {"upgrade", "h2c", true}, {"content-type", "application/grpc", true}, {"content-type", "Application/gRPC+proto", true},
      {"content-type", "application/grpc-web", true}, {"accept", "text/event-stream", true}, {"accept", "application/json, text/event-stream", true},
      {"accept", "*/*,\t Text/Event-Stream;q=0.9", true}, {"accept", ", ,text/event-stream", true},
      {"content-type", "application/json", false}, {"content-type", "application/grp", false}, {"accept", "*/*", false}, {"accept", "application/text/event-stream", false},
      {"accept", "", false}, {"accept", " , ", false}, {"accept", "text/event-strea", false}, {"x-upgrade", "websocket", false}, {"accept-language", "text/event-stream", false},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    header_list list = {.n = 2, .at = {header(":path", "/"), header(rows[i].name, rows[i].value)}};
    if (asks_for_stream(&list) != rows[i].stream) FAIL("%s: %s: got %d", rows[i].name, rows[i].value, !rows[i].stream);
  }
  header_list list = {.too_many = true};
  if (!asks_for_stream(&list)) FAIL("a request with too many headers may be a stream, and is not watched");
}

static void test_responses(void) {
  const struct {
    const char *status, *type, *length;
    bool stream;
  } rows[] = {
      {"200", NULL, NULL, true}, {"200", "text/event-stream", NULL, true}, {"200", "text/event-stream", "10", true}, {"200", "application/grpc", "0", true}, {"101", NULL, "0", true},
      {"200", "application/json", "10", false}, {"200", NULL, "10", false}, {"403", "text/plain", "10", false},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    fake f = {.response_count = 1, .response = {header(":status", rows[i].status)}};
    if (rows[i].type) f.response[f.response_count++] = header("content-type", rows[i].type);
    if (rows[i].length) f.response[f.response_count++] = header("content-length", rows[i].length);
    if (is_stream(&f) != rows[i].stream) FAIL("status %s, type %s, length %s: got %d", rows[i].status, rows[i].type, rows[i].length, !rows[i].stream);
  }
}

static void test_decisions(void) {
  const struct {
    const char *decision;
    bool has_known, known, let_in;
  } rows[] = {{"allow", false, false, true}, {NULL, true, true, true}, {"deny", false, false, false}, {NULL, false, false, false}, {NULL, true, false, false}, {"allowed", false, false, false}, {"", false, false, false}};
  for (size_t i = 0; i < COUNT(rows); i++) {
    fake f = {.has_known = rows[i].has_known, .known = rows[i].known};
    if (rows[i].decision) f.decision = (text){rows[i].decision, strlen(rows[i].decision)};
    if (is_let_in(&f) != rows[i].let_in) FAIL("decision %s, known %d: got %d", rows[i].decision, rows[i].known, !rows[i].let_in);
  }
}

static int responds(fake *f, const void *state, const char *length) {
  f->response[0] = header(":status", "200");
  f->response_count = 1;
  if (length) f->response[f->response_count++] = header("content-length", length);
  return envoy_dynamic_module_on_http_filter_response_headers(f, state, false);
}

// test_events leads requests through the events of Envoy.
static void test_events(void) {
  char line[160];
  const int n = snprintf(line, sizeof line, "socket=/tmp/rescind-check-%d.none uid=%u", getpid(), getuid());
  const void *config = envoy_dynamic_module_on_http_filter_config_new(NULL, TEXT("rescind"), (text){line, (size_t)n});
  if (!config) FAIL("the configuration is refused");
  const struct {
    const char *name;
    bool asks, token, policy;
    const char *decision, *length; // of the response
    bool before, after;            // watched before and after the response
  } rows[] = {
      {"a stream", true, true, true, "allow", NULL, true, true},
      {"an ordinary answer to a request for a stream", true, true, true, "allow", "10", true, false},
      {"a stream that nobody asked for", false, true, true, "allow", NULL, false, true},
      {"an ordinary request", false, true, true, "allow", "10", false, false},
      {"a stream that nobody let in", false, true, true, NULL, NULL, false, false},
      {"a denial", false, true, true, "deny", NULL, false, false},
      {"without a token", true, false, true, "allow", NULL, false, false},
      {"without a policy", true, true, false, "allow", NULL, false, false},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    fake f = {.count = 1, .headers = {header(":path", "/")}};
    if (rows[i].policy) f.policy = TEXT("default");
    if (rows[i].token) f.headers[f.count++] = header("authorization", "Bearer token");
    if (rows[i].asks) f.headers[f.count++] = header("upgrade", "websocket");
    const void *state = envoy_dynamic_module_on_http_filter_new(config, &f);
    envoy_dynamic_module_on_http_filter_request_headers(&f, state, false);
    if ((schedulers == 1) != rows[i].before) FAIL("%s: watched before its response: %u", rows[i].name, schedulers);
    if (rows[i].decision) f.decision = (text){rows[i].decision, strlen(rows[i].decision)};
    envoy_dynamic_module_on_http_filter_scheduled(&f, state, ASK);
    responds(&f, state, rows[i].length);
    if ((schedulers == 1) != rows[i].after) FAIL("%s: watched after its response: %u", rows[i].name, schedulers);
    envoy_dynamic_module_on_http_filter_scheduled(&f, state, 1 << 16);
    if (f.reset != rows[i].after) FAIL("%s: reset %d", rows[i].name, f.reset);
    envoy_dynamic_module_on_http_filter_destroy(state);
    if (schedulers) FAIL("%s: a scheduler is left", rows[i].name);
  }
  envoy_dynamic_module_on_http_filter_config_destroy(config);
}

void test_rules_of_streams(void) {
  test_requests();
  test_responses();
  test_decisions();
  test_events();
}

// heard reads the next report, or returns kind 0.
static stream_message heard(int socket, char texts[64]) {
  char bytes[sizeof(stream_message) + 64] = {0};
  stream_message m = {0};
  const ssize_t n = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return m;
  memcpy(&m, bytes, sizeof m);
  if ((size_t)n != sizeof m + m.policy_size + m.token_size) FAIL("a report has %zd bytes", n);
  memcpy(texts, bytes + sizeof m, 64);
  return m;
}

static void want(const char *what, int socket, uint64_t kind, uint64_t number, const char *texts) {
  char got[64] = "";
  const stream_message m = heard(socket, got);
  if (m.kind != kind || (number && m.stream != number) || strncmp(got, texts, sizeof got)) FAIL("%s: got report %lu of stream %lx with \"%.64s\", want %lu of %lx with \"%s\"", what, m.kind, m.stream, got, kind, number, texts);
}
#define NOTHING(what, socket) (streams_report(s, ends[0]), want(what, socket, 0, 0, ""))

static void *events(fake *of) { return ENVOY(http_filter_scheduler_new)(of); }

void test_reports_of_streams(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) FAIL("socketpair: %s", strerror(errno));
  streams *s = streams_new();
  fake of_known = {0}, of_waits = {0}, of_others = {0};
  stream *known = streams_add(s, TEXT("default"), TEXT("a.b.c"), events(&of_known), true);
  streams_report(s, ends[0]);
  char texts[64] = "";
  const uint64_t number = heard(ends[1], texts).stream;
  if (strcmp(texts, "defaulta.b.c")) FAIL("the report has the texts \"%s\"", texts);

  stream *waits = streams_add(s, TEXT("p"), TEXT("t"), events(&of_waits), false);
  uint32_t asked[20];
  for (int i = 0; i < 20; i++) streams_ask(s), asked[i] = of_waits.asks;
  const uint32_t want_asked[20] = {1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5};
  if (memcmp(asked, want_asked, sizeof asked)) FAIL("in the rounds up to the 20th the stream was asked %u times, want 5 after 1, 2, 4, 8 and 16", asked[19]);
  if (of_known.asks) FAIL("a stream that was let in is asked");
  NOTHING("a stream that waits", ends[1]);
  streams_let_in(s, waits);
  streams_let_in(s, waits);
  streams_let_in(s, known);
  streams_report(s, ends[0]);
  want("a stream that was let in", ends[1], STREAM_OPENED, 0, "pt");
  NOTHING("a stream that was reported", ends[1]);

  streams_end(s, number);
  streams_end(s, number + 1);
  streams_end(s, number + (1 << 16));
  if (of_known.ends != 1 || of_known.end != number || of_waits.ends) FAIL("the end of one stream: got %u and %u events", of_known.ends, of_waits.ends);
  streams_remove(s, known);
  streams_end(s, number);
  streams_report(s, ends[0]);
  want("a stream that has closed", ends[1], STREAM_CLOSED, number, "");

  stream *short_lived = streams_add(s, TEXT("p"), TEXT("short"), events(&of_others), true);
  streams_remove(s, short_lived);
  NOTHING("a stream that closed before its report", ends[1]);

  // Another replica hears of all that are open.
  stream *other = streams_add(s, TEXT("p"), TEXT("u"), events(&of_others), false);
  stream *closes = streams_add(s, TEXT("p"), TEXT("v"), events(&of_others), true);
  streams_report(s, ends[0]);
  want("a third stream", ends[1], STREAM_OPENED, 0, "pv");
  streams_remove(s, closes);
  streams_report_all(s);
  streams_report(s, ends[0]);
  want("all again", ends[1], STREAM_OPENED, 0, "pt");
  NOTHING("the closed and the waiting one", ends[1]);
  streams_remove(s, waits);
  streams_remove(s, other);
  close(ends[1]);
  if (streams_report(s, ends[0])) FAIL("a replica that has gone is not noticed");
  close(ends[0]);
  free(s);
  if (schedulers) FAIL("%u schedulers are left", schedulers);
}

// fill adds streams until there is no place, and returns how many there are.
static uint32_t fill(streams *s, stream **all, uint32_t n, text token, bool let_in) {
  for (;; n++) {
    static fake of;
    void *e = events(&of);
    if (!(all[n] = streams_add(s, TEXT(""), token, e, let_in))) {
      ENVOY(http_filter_scheduler_delete)(e);
      return n;
    }
  }
}

void test_bounds_of_streams(void) {
  static stream *all[MAX_STREAMS + 1];
  char *large = calloc(1, 16 << 10);
  const struct {
    const char *name;
    text token;
    uint32_t waiting, every; // at most; a little less, because an entry takes some bytes itself
  } rows[] = {{"small tokens", TEXT("t"), MAX_WAITING, MAX_STREAMS}, {"large tokens", {large, 16 << 10}, MAX_WAITING_BYTES >> 14, MAX_STREAM_BYTES >> 14}};
  for (size_t i = 0; i < COUNT(rows); i++) {
    streams *s = streams_new();
    uint32_t n = fill(s, all, 0, rows[i].token, false);
    if (n > rows[i].waiting || n < rows[i].waiting * 99 / 100) FAIL("%s: %u streams wait, want about %u", rows[i].name, n, rows[i].waiting);
    n = fill(s, all, n, rows[i].token, true);
    if (n > rows[i].every || n < rows[i].every * 99 / 100) FAIL("%s: %u streams are watched, want about %u", rows[i].name, n, rows[i].every);
    streams_ask(s);
    streams_let_in(s, all[0]);
    streams_remove(s, all[--n]);
    if (fill(s, all, n, rows[i].token, false) != n + 1) FAIL("%s: there is no place for a stream that waits after one that waited was let in", rows[i].name);
    for (uint32_t j = 0; j <= n; j++) streams_remove(s, all[j]);
    const uint32_t again = fill(s, all, 0, rows[i].token, false);
    if (again < rows[i].waiting * 99 / 100) FAIL("%s: %u streams find a place after all have closed", rows[i].name, again);
    for (uint32_t j = 0; j < again; j++) streams_remove(s, all[j]);
    free(s);
    if (schedulers) FAIL("%s: %u schedulers are left", rows[i].name, schedulers);
  }
  free(large);
}
