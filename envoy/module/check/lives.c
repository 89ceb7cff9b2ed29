// Workers under load, while replicas come and go: honest ones, ones whose table lies, and
// ones that send anything over the socket.
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef WITHOUT_HAZARDS
// The workers of this build do not protect the memory that they use. The linker puts
// these in the place of attachment_hold (--wrap), so the module itself is unchanged.
extern const attachment *__real_attachment_hold(const source *s, int worker);
extern const attachment *__wrap_attachment_hold(const source *s, int worker);
const attachment *__wrap_attachment_hold(const source *s, int worker) {
  const attachment *a = __real_attachment_hold(s, worker);
  attachment_release(worker);
  return a;
}
#endif

static bool over;
static long known_requests, resets;

static int listen_at(const char *path) {
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strcpy(at.sun_path, path);
  unlink(path);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4)) FAIL("%s: %s", path, strerror(errno));
  return listener;
}

static const void *configure(const char *path, unsigned uid) {
  char line[160];
  const int n = snprintf(line, sizeof line, "socket=%s uid=%u", path, uid);
  const void *config = envoy_dynamic_module_on_http_filter_config_new(NULL, TEXT("rescind"), (text){line, (size_t)n});
  if (!config) FAIL("the configuration is refused");
  return config;
}

static int accept_module(int listener) {
  struct pollfd wait = {listener, POLLIN, 0};
  const int fd = poll(&wait, 1, 10000) > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
  if (fd < 0) FAIL("the module does not connect");
  return fd;
}

// send_answer sends bytes and descriptors in the place of the answer to a hello.
static void send_answer(int fd, const void *bytes, size_t n, const int *fds, size_t count) {
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(8 * sizeof(int))];
  } control = {.head = {CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
  struct iovec part = {(void *)bytes, n};
  const struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = count ? control.bytes : NULL, .msg_controllen = count ? CMSG_SPACE(count * sizeof(int)) : 0};
  if (sendmsg(fd, &h, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) FAIL("sendmsg: %s", strerror(errno));
}

static int greeted(int listener) {
  const int fd = accept_module(listener);
  hello_message hello;
  if (recv(fd, &hello, sizeof hello, 0) != sizeof hello || hello.kind != HELLO) FAIL("the module says no hello");
  return fd;
}

static void beat(replica *r) { RELEASE(&r->head->beat, RELAXED(&r->head->beat) + 1); }

// end_streams names half of the streams that the module reports as ones that must end.
static void end_streams(int fd) {
  char bytes[256];
  while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    stream_message m;
    memcpy(&m, bytes, sizeof m);
    if (m.kind != STREAM_OPENED || chance() % 2) continue;
    m = (stream_message){.kind = STREAM_END, .stream = m.stream};
    (void)!send(fd, &m, sizeof m, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

// serve_honestly lasts until a request was known, a stream was reset, and a worker
// stands still while it uses the table.
static void serve_honestly(int listener) {
  const int fd = greeted(listener);
  replica r = replica_new();
  replica_admit(&r, TEXT("token"));
  const table_message m = {TABLE, r.table_size, r.ring_size};
  send_answer(fd, &m, sizeof m, (int[]){r.table_fd, r.ring_fd}, 2);
  const long known = RELAXED(&known_requests), ended = RELAXED(&resets);
  const uint32_t paused = RELAXED(&pausing);
  for (int i = 0; RELAXED(&known_requests) == known || RELAXED(&resets) == ended || RELAXED(&pausing) == paused; i++) {
    if (i == 20000) FAIL("after 20 s with a good table: %ld known requests, %ld resets, %u pauses", RELAXED(&known_requests) - known, RELAXED(&resets) - ended, RELAXED(&pausing) - paused);
    beat(&r);
    end_streams(fd);
    usleep(1000);
  }
  close(fd);
  replica_free(&r);
}

// lie changes a word of the table. Half of the lies are in words that a request for the
// known token reads: the size of its answer, the answer, the number of its entry.
static void lie(const replica *r) {
  uint64_t *entry = (uint64_t *)(r->table + r->head->entries_at), *index = (uint64_t *)(r->table + r->head->index_at), head = 0;
  const uint64_t any = chance() % 2 ? chance() >> chance() % 64 : chance() % 70;
  switch (chance() % 8) {
  case 0:
    RELEASE(&entry[5], any);
    return;
  case 1: // a good head of an item, and any value
    memcpy(&head, subject_alice, 4);
    RELEASE(&entry[ENTRY_HEAD / 8], head | any << 32);
    return;
  case 2:
    RELEASE(&entry[chance() % 10], any);
    return;
  case 3:
    for (uint64_t i = 1; i < BUCKETS * 8; i += 2)
      if (RELAXED(&index[i])) RELEASE(&index[i], any);
    return;
  }
  const uint64_t words = (r->table_size - offsetof(table_head, beat)) / 8;
  RELEASE((uint64_t *)(r->table + offsetof(table_head, beat)) + chance() % words, any);
}

// serve_lies writes anything into the table at any time, but for the beginning of its
// head, which the module copies once.
static void serve_lies(int listener) {
  const int fd = greeted(listener);
  replica r = replica_new();
  replica_admit(&r, TEXT("token"));
  const table_message m = {TABLE, r.table_size, r.ring_size};
  send_answer(fd, &m, sizeof m, (int[]){r.table_fd, r.ring_fd}, 2);
  for (int i = 0; i < 50; i++) {
    beat(&r);
    for (int j = 0; j < 2000; j++) {
      lie(&r);
      if (j % 8 == 0) {
        replica_admit(&r, TEXT("token"));
        RELEASE(&r.head->open, 1ull), RELEASE(&r.head->epoch, 1ull), RELEASE(&r.head->audit, 0ull);
      }
    }
    usleep(1000);
  }
  close(fd);
  replica_free(&r);
}

// any fills memory with random bytes, among them many that the module knows.
static void any(void *to, size_t n) {
  for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)(chance() % 2 ? chance() % 6 : chance());
}

// serve_hostile answers the hello with a good answer, with a changed one, or with
// anything, and then sends any messages.
static void serve_hostile(int listener) {
  const int fd = greeted(listener);
  replica r = replica_new();
  char bytes[64];
  any(bytes, sizeof bytes);
  table_message m = {TABLE, r.table_size, r.ring_size};
  const uint64_t how = chance() % 8;
  if (how == 1) m.kind = chance() % 8;
  if (how == 2) m.table_size = chance() >> chance() % 64;
  if (how == 3) m.ring_size = chance() >> chance() % 64;
  if (how == 4) any(&((char *)r.table)[chance() % 4096 & ~7u], 8);
  if (how == 5) any(&((char *)r.ring)[chance() % 64 & ~7u], 8);
  if (how < 6 || chance() % 2) memcpy(bytes, &m, sizeof m);
  const int fds[] = {r.table_fd, r.ring_fd, r.table_fd, listener, r.ring_fd};
  const bool good = how < 6;
  send_answer(fd, bytes, good ? sizeof m : chance() % sizeof bytes, good ? fds : fds + chance() % 3, good ? 2 : chance() % 4);
  for (int i = 0; i < 20; i++) {
    beat(&r);
    stream_message end = {.kind = STREAM_END, .stream = chance() % 4 ? chance() % (MAX_STREAMS * 4ull) : chance()};
    any(bytes, sizeof bytes);
    if (chance() % 8) memcpy(bytes, &end, sizeof end);
    if (send(fd, bytes, chance() % 8 ? sizeof end : chance() % sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break;
    if (chance() % 4 == 0) usleep(1000);
  }
  close(fd);
  replica_free(&r);
}

// random_request writes a request as clients send it, or as no client should.
static void random_request(fake *r, char *memory, size_t size) {
  static const char *const names[] = {":path", "accept", "authorization", "x-jwt-subject", "x_jwt.Subject", "x-jwt-", "X-Jwt-Issuer", "upgrade", "content-type", "cookie", "", "x"};
  static const char *const values[] = {"", "*/*", "Bearer token", "Bearer ", "bearer  token", "Bearer", "Bearer  ", "Basic dG9rZW4=", "text/event-stream", "a, text/event-stream", "application/grpc", "websocket", "token"};
  *r = (fake){.policy = TEXT("default"), .count = 3};
  r->headers[0] = (field){TEXT(":path"), TEXT("/")};
  r->headers[1] = (field){TEXT("authorization"), TEXT("Bearer token")};
  r->headers[2] = (field){chance() % 4 ? TEXT("accept") : TEXT("upgrade"), chance() % 2 ? TEXT("text/event-stream") : TEXT("*/*")};
  if (chance() % 2) return;
  if (chance() % 8 == 0) r->policy = (text){memory, chance() % 50};
  for (uint64_t n = chance() % 64 ? chance() % 8 : HEADERS - 3; n; n--) {
    const char *name = names[chance() % COUNT(names)], *value = values[chance() % COUNT(values)];
    field f = {{name, strlen(name)}, {value, strlen(value)}};
    if (chance() % 4 == 0) f.value = (text){memory, chance() % 4 ? chance() % 64 : chance() % size};
    if (chance() % 16 == 0) f.name = (text){memory, chance() % 64};
    r->headers[chance() % 4 ? r->count++ : chance() % r->count] = f;
  }
}

static void respond(fake *r) {
  r->response[0] = (field){TEXT(":status"), chance() % 4 ? TEXT("200") : TEXT("101")};
  r->response_count = 1;
  if (chance() % 2) r->response[r->response_count++] = (field){TEXT("content-length"), TEXT("1")};
  if (chance() % 2) r->response[r->response_count++] = (field){TEXT("content-type"), chance() % 2 ? TEXT("text/event-stream") : TEXT("a")};
}

// A worker has some requests open at a time, and gives each the events that Envoy gives
// it, in any order.
static void *run_worker(void *config) {
  enum { OPEN = 16, MEMORY = 20 << 10 };
  static fake all[WORKERS][OPEN];
  static uint32_t workers;
  const uint32_t number = __atomic_fetch_add(&workers, 1, __ATOMIC_RELAXED);
  const void *states[OPEN] = {0};
  char *memory = malloc(MEMORY);
  chance_begin(number + 2);
  any(memory, MEMORY);
  while (!ACQUIRE(&over)) {
    const uint64_t i = chance() % OPEN;
    fake *r = &all[number][i];
    if (!states[i]) {
      random_request(r, memory, MEMORY);
      states[i] = envoy_dynamic_module_on_http_filter_new(config, r);
      envoy_dynamic_module_on_http_filter_request_headers(r, states[i], false);
      if (r->known) __atomic_fetch_add(&known_requests, 1, __ATOMIC_RELAXED);
      else if (chance() % 2) r->decision = TEXT("allow");
      continue;
    }
    switch (chance() % 4) {
    case 0:
      envoy_dynamic_module_on_http_filter_scheduled(r, states[i], ACQUIRE(&r->ends) ? RELAXED(&r->end) : ASK);
      if (!r->reset) break;
      __atomic_fetch_add(&resets, 1, __ATOMIC_RELAXED);
      envoy_dynamic_module_on_http_filter_destroy(states[i]);
      states[i] = NULL;
      break;
    case 1:
      respond(r);
      envoy_dynamic_module_on_http_filter_response_headers(r, states[i], chance() % 4 == 0);
      break;
    case 2:
      if (chance() % 8) break; // so that the replica hears of some
      envoy_dynamic_module_on_http_filter_destroy(states[i]);
      states[i] = NULL;
      break;
    default:
      if (chance() % 64 == 0) usleep(100);
    }
  }
  for (int i = 0; i < OPEN; i++)
    if (states[i]) envoy_dynamic_module_on_http_filter_destroy(states[i]);
  free(memory);
  return NULL;
}

// test_another_user lets this user serve where the configuration names another one. The
// log says so once.
void test_another_user(void) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/rescind-check-%d.other", getpid());
  const int listener = listen_at(path);
  const void *config = configure(path, getuid() + 1);
  const uint32_t before = RELAXED(&complaints);
  for (int i = 0; i < 8; i++) {
    const int fd = accept_module(listener);
    char byte;
    if (recv(fd, &byte, 1, 0) > 0) FAIL("the module greets the process of another user");
    close(fd);
  }
  if (RELAXED(&complaints) != before + 1) FAIL("8 refused connections: got %u lines in the log, want one", RELAXED(&complaints) - before);
  fake r = {.policy = TEXT("default"), .count = 1, .headers = {{TEXT("authorization"), TEXT("Bearer token")}}};
  const void *state = envoy_dynamic_module_on_http_filter_new(config, &r);
  envoy_dynamic_module_on_http_filter_request_headers(&r, state, true);
  if (r.known) FAIL("a request is known, and no replica is there");
  envoy_dynamic_module_on_http_filter_destroy(state);
  envoy_dynamic_module_on_http_filter_config_destroy(config);
  unlink(path);
  close(listener);
}

// test_messages sends a message to a module that is attached. The module gives up a
// replica that sends anything but the end of a stream.
void test_messages(void) {
  const struct {
    const char *name;
    stream_message m; // and the bytes that follow it in memory
    size_t size;
  } rows[] = {
      {"no kind", {.kind = 0}, sizeof(stream_message)}, {"a hello", {.kind = HELLO}, sizeof(stream_message)}, {"a table", {.kind = TABLE}, sizeof(stream_message)},
      {"an opened stream", {.kind = STREAM_OPENED}, sizeof(stream_message)}, {"a closed stream", {.kind = STREAM_CLOSED}, sizeof(stream_message)},
      {"an unknown kind", {.kind = UINT64_MAX}, sizeof(stream_message)}, {"a short end", {.kind = STREAM_END}, sizeof(stream_message) - 1}, {"a byte", {.kind = STREAM_END}, 1},
      {"a long end", {.kind = STREAM_END}, sizeof(stream_message) + 1},
  };
  char path[64];
  snprintf(path, sizeof path, "/tmp/rescind-check-%d.messages", getpid());
  const int listener = listen_at(path);
  const void *config = configure(path, getuid());
  for (size_t i = 0; i < COUNT(rows); i++) {
    const int fd = greeted(listener);
    replica r = replica_new();
    const table_message table = {TABLE, r.table_size, r.ring_size};
    send_answer(fd, &table, sizeof table, (int[]){r.table_fd, r.ring_fd}, 2);
    const stream_message end = {.kind = STREAM_END, .stream = chance()};
    struct pollfd wait = {fd, POLLIN | POLLRDHUP, 0};
    if (send(fd, &end, sizeof end, MSG_NOSIGNAL) < 0 || poll(&wait, 1, 100) != 0) FAIL("%s: the module gave the replica up before it", rows[i].name);
    if (send(fd, (const char *)&rows[i] + offsetof(__typeof__(rows[0]), m), rows[i].size, MSG_NOSIGNAL) < 0 || poll(&wait, 1, 10000) != 1) FAIL("%s: the module goes on with the replica", rows[i].name);
    close(fd);
    replica_free(&r);
  }
  envoy_dynamic_module_on_http_filter_config_destroy(config);
  unlink(path);
  close(listener);
}

static int count_files(void) {
  DIR *d = opendir("/proc/self/fd");
  int n = 0;
  if (!d) FAIL("/proc/self/fd: %s", strerror(errno));
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

static int count_maps(void) {
  FILE *f = fopen("/proc/self/maps", "re");
  char line[512];
  int n = 0;
  if (!f) FAIL("/proc/self/maps: %s", strerror(errno));
  while (fgets(line, sizeof line, f)) n += strstr(line, "memfd:check") != NULL;
  fclose(f);
  return n;
}

void test_lives(int lives) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/rescind-check-%d.sock", getpid());
  const int listener = listen_at(path);
  const void *config = configure(path, getuid());
  pthread_t threads[WORKERS];
  RELEASE(&pauses, true);
  for (int i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, run_worker, (void *)config);
  serve_honestly(listener);
  int files = 0;
  for (int i = 0; i < lives; i++) {
    void (*const serve[])(int) = {serve_lies, serve_hostile, serve_hostile, serve_honestly};
    serve[i % 4](listener);
    if (i == 3) files = count_files();
  }
  serve_honestly(listener);
  // The thread gives back the memory of the last life, once the workers have let it go.
  for (int i = 0; count_maps() > 0; i++) {
    if (i == 10000) FAIL("%d maps of replicas that have gone are left", count_maps());
    usleep(1000);
  }
  if (lives > 4 && count_files() > files + 1) FAIL("%d descriptors are open, and %d were at the beginning", count_files(), files);
  RELEASE(&over, true);
  for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
  unlink(path);
  close(listener);
  envoy_dynamic_module_on_http_filter_config_destroy(config);
  if (schedulers) FAIL("%u schedulers are left", schedulers);
  printf("   %d lives of a replica: %ld known requests, %ld streams reset, %u pauses\n", lives, known_requests, resets, pausing);
}
