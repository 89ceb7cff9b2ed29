// Tests of the module without Envoy: make -C envoy/module check
//
// The program is Envoy and the replica at once: it has the callbacks that the module
// calls, and serves tables over a socket. It runs with the address and undefined
// behaviour sanitizers, and with the thread sanitizer.
#define _GNU_SOURCE
#include "abi.h"
#include "answer.h"
#include "entry.h"
#include "fits.h"
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

#define FAIL(...) (fprintf(stderr, "FAIL %s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

// ---- Envoy ----

enum { HEADERS = 160 };

// fake is a request in this Envoy.
typedef struct {
  field headers[HEADERS];
  size_t count;
  text policy;
  bool has_known, known;
  int set;
} fake;

static bool equal(text a, text b) { return a.n == b.n && !memcmp(a.at, b.at, a.n); }

bool ENVOY(http_get_header)(void *f, int kind, text name, text *value, size_t index, size_t *count) {
  const fake *r = f;
  *count = 0;
  for (size_t i = 0; kind == REQUEST_HEADER && i < r->count; i++)
    if (equal(r->headers[i].name, name) && (*count)++ == index) *value = r->headers[i].value;
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
}
bool ENVOY(http_get_metadata_string)(void *f, int from, text space, text name, text *value) {
  (void)space, (void)name;
  *value = ((fake *)f)->policy;
  return from == OF_ROUTE && value->at;
}
bool ENVOY(http_get_metadata_bool)(void *f, int from, text space, text name, bool *value) {
  (void)from, (void)space, (void)name;
  *value = ((fake *)f)->known;
  return ((fake *)f)->has_known;
}
bool ENVOY(http_filter_get_attribute_string)(void *f, int attribute, text *value) {
  (void)f, (void)attribute;
  *value = TEXT("127.0.0.1:4711");
  return true;
}
void ENVOY(http_clear_route_cache)(void *f) { (void)f; }
void *ENVOY(http_filter_scheduler_new)(void *f) { return (void)f, malloc(1); }
void ENVOY(http_filter_scheduler_commit)(void *s, uint64_t event) { *(char *)s = (char)event; }
void ENVOY(http_filter_scheduler_delete)(void *s) { free(s); }
void ENVOY(http_filter_reset_stream)(void *f, int reason, text details) { (void)f, (void)reason, (void)details; }
bool ENVOY(is_validation_mode)(void) { return false; }
uint32_t ENVOY(get_concurrency)(void) { return 4; }
void ENVOY(log)(int level, text message) { (void)level, (void)message; }

extern const void *envoy_dynamic_module_on_http_filter_config_new(void *envoy, text filter, text value);
extern void envoy_dynamic_module_on_http_filter_config_destroy(const void *s);
extern const void *envoy_dynamic_module_on_http_filter_new(const void *s, void *filter);
extern void envoy_dynamic_module_on_http_filter_destroy(const void *state);
extern int envoy_dynamic_module_on_http_filter_request_headers(void *filter, const void *state, bool last);

// ---- the replica ----

enum { ENTRIES = 64, STRIDE = 320, BUCKETS = 32, CELLS = 256, WORKERS = 4 };
static const key128 secret = {{1, 2}};

typedef struct {
  int table_fd, ring_fd;
  uint64_t table_size, ring_size, announced; // announced: as the size of the table
  table_head *head;
  char *table, *ring;
} replica;

static char *shared(int *fd, uint64_t size, int seals) {
  *fd = memfd_create("check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  char *at = *fd < 0 || ftruncate(*fd, (off_t)size) ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  if (at == MAP_FAILED || fcntl(*fd, F_ADD_SEALS, seals)) FAIL("no memory: %s", strerror(errno));
  return at;
}

static const int FIXED = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

static replica replica_new(void) {
  replica r = {.table_size = sizeof(table_head) + BUCKETS * sizeof(bucket) + ENTRIES * STRIDE};
  const uint64_t used_at = PAGE + WORKERS * (sizeof(worker_ring) + CELLS * sizeof(cell));
  r.announced = r.table_size;
  r.ring_size = used_at + ENTRIES;
  r.table = shared(&r.table_fd, r.table_size, FIXED | F_SEAL_FUTURE_WRITE);
  r.ring = shared(&r.ring_fd, r.ring_size, FIXED);
  r.head = (table_head *)r.table;
  *r.head = (table_head){
      .magic = TABLE_MAGIC, .layout = LAYOUT, .size = r.table_size, .index_at = sizeof(table_head), .buckets = BUCKETS,
      .entries_at = sizeof(table_head) + BUCKETS * sizeof(bucket), .entries = ENTRIES, .stride = STRIDE,
      .names = 2, .policies = 1, .open = 1, .epoch = 1, .prefix = "x-jwt-", .name = {"x-jwt-issuer", "x-jwt-subject"},
  };
  r.head->policy[0].secret = secret;
  strcpy(r.head->policy[0].name, "default");
  *(ring_head *)r.ring = (ring_head){RING_MAGIC, LAYOUT, r.ring_size, WORKERS, CELLS, used_at, ENTRIES};
  return r;
}

static void replica_free(replica *r) {
  munmap(r->table, r->table_size);
  munmap(r->ring, r->ring_size);
  close(r->table_fd);
  close(r->ring_fd);
}

// entry_write is the writer of the package envoy/known, in C.
static void entry_write(uint64_t *w, key128 key, uint64_t ends, const char *bytes, size_t n) {
  const uint64_t sequence = RELAXED(&w[0]) | 1;
  STORE(&w[0], sequence);
  RELEASE(&w[1], key.word[0]);
  RELEASE(&w[2], key.word[1]);
  RELEASE(&w[3], 1ull);
  RELEASE(&w[4], ends);
  RELEASE(&w[5], (uint64_t)n);
  for (size_t i = 0; i < n; i += 8) {
    uint64_t word = 0;
    memcpy(&word, bytes + i, n - i < 8 ? n - i : 8);
    RELEASE(&w[8 + i / 8], word);
  }
  RELEASE(&w[0], sequence + 1);
}

static const char subject_alice[] = {ITEM_HEADER, 1, 5, 0, 'a', 'l', 'i', 'c', 'e', ITEM_SUBJECT, 1, (char)0xff, (char)0xff};

static void replica_admit(replica *r, text token) {
  const key128 key = siphash(token.at, token.n, secret);
  uint64_t *w = (uint64_t *)(r->table + r->head->entries_at);
  entry_write(w, key, (uint64_t)time(NULL) + 3600, subject_alice, sizeof subject_alice);
  bucket *b = (bucket *)(r->table + r->head->index_at) + (key.word[0] & (BUCKETS - 1));
  RELEASE(&b->slot[0].tag, key.word[0] ^ key.word[1]);
  RELEASE(&b->slot[0].entry, 1ull);
}

// ---- tests ----

static __thread uint64_t state = 88172645463325252ull;
static uint64_t chance(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

// refuses checks that a table with a change in it is not mapped.
static void refuses(const char *fault, void (*change)(replica *)) {
  replica r = replica_new();
  change(&r);
  const char *reason;
  attachment *a = attachment_map(r.table_fd, r.ring_fd, r.announced, r.ring_size, &reason);
  if (a) FAIL("%s: the memory is accepted", fault);
  replica_free(&r);
}

#define CHANGE(name, statement) \
  static void name(replica *r) { statement; }
CHANGE(other_magic, r->head->magic++)
CHANGE(other_layout, r->head->layout++)
CHANGE(other_size, r->head->size += 4096)
CHANGE(announced_larger, r->announced += 4096)
CHANGE(no_buckets, r->head->buckets = 0)
CHANGE(odd_buckets, r->head->buckets = 3)
CHANGE(many_buckets, r->head->buckets = 1ull << 30)
CHANGE(huge_buckets, r->head->buckets = 1ull << 58)
CHANGE(many_entries, r->head->entries = 1u << 30)
CHANGE(huge_entries, r->head->entries = 1ull << 60)
CHANGE(no_entries, r->head->entries = 0)
CHANGE(small_stride, r->head->stride = 64)
CHANGE(odd_stride, r->head->stride = 321)
CHANGE(index_in_head, r->head->index_at = 64)
CHANGE(index_outside, r->head->index_at = 1ull << 40)
CHANGE(entries_outside, r->head->entries_at = r->table_size)
CHANGE(entries_unaligned, r->head->entries_at += 8)
CHANGE(many_names, r->head->names = MAX_NAMES + 1)
CHANGE(many_policies, r->head->policies = MAX_POLICIES + 1)
CHANGE(endless_name, memset(r->head->name[0], 'x', NAME_SIZE))
CHANGE(no_prefix, r->head->prefix[0] = 0)
CHANGE(no_workers, ((ring_head *)r->ring)->workers = 0)
CHANGE(many_workers, ((ring_head *)r->ring)->workers = MAX_WORKERS + 1)
CHANGE(odd_cells, ((ring_head *)r->ring)->cells = 100)
CHANGE(many_cells, ((ring_head *)r->ring)->cells = MAX_CELLS)
CHANGE(used_outside, ((ring_head *)r->ring)->used_at = r->ring_size)
CHANGE(other_entries, ((ring_head *)r->ring)->entries = ENTRIES + 1)

static void test_mapping(void) {
  replica r = replica_new();
  const char *reason;
  attachment *a = attachment_map(r.table_fd, r.ring_fd, r.table_size, r.ring_size, &reason);
  if (!a) FAIL("a good table is refused: %s", reason);
  attachment_unmap(a);
  replica_free(&r);
  struct {
    const char *fault;
    void (*change)(replica *);
  } faults[] = {
      {"another magic", other_magic}, {"another layout", other_layout}, {"another size", other_size}, {"a size that is announced too large", announced_larger},
      {"no buckets", no_buckets}, {"3 buckets", odd_buckets}, {"too many buckets", many_buckets}, {"buckets that overflow", huge_buckets},
      {"too many entries", many_entries}, {"entries that overflow", huge_entries}, {"no entries", no_entries}, {"a small stride", small_stride}, {"an odd stride", odd_stride},
      {"an index in the head", index_in_head}, {"an index outside", index_outside}, {"entries outside", entries_outside}, {"unaligned entries", entries_unaligned},
      {"too many names", many_names}, {"too many policies", many_policies}, {"a name without an end", endless_name}, {"no prefix", no_prefix},
      {"no workers", no_workers}, {"too many workers", many_workers}, {"100 cells", odd_cells}, {"too many cells", many_cells}, {"uses outside", used_outside}, {"other entries", other_entries},
  };
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) refuses(faults[i].fault, faults[i].change);

  int open_fd;
  char *open_memory = shared(&open_fd, r.table_size, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  replica sealed = replica_new();
  memcpy(open_memory, sealed.table, sealed.table_size);
  if (attachment_map(open_fd, sealed.ring_fd, sealed.table_size, sealed.ring_size, &reason)) FAIL("a table that others can write is accepted");
  if (!ftruncate(sealed.table_fd, 0)) FAIL("a sealed table can be made smaller");
  if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, sealed.table_fd, 0) != MAP_FAILED) FAIL("a sealed table can be mapped writable");
  munmap(open_memory, sealed.table_size);
  close(open_fd);
  replica_free(&sealed);
}

static void test_settings(void) {
  const char *bad[] = {"", "socket=/x", "uid=1", "socket=x uid=1", "socket=/x uid=-1", "socket=/x uid=1x", "socket=/x uid=4294967295", "socket=/x uid=99999999999999999999", "socket=/x uid=1 streams=yes", "socket=/x uid=1 other=on", "socket=/x uid=1 streams", "socket= uid=1", "socket=/x uid="};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (settings_new((text){bad[i], strlen(bad[i])})) FAIL("the configuration \"%s\" is accepted", bad[i]);
  char line[600];
  for (int i = 0; i < 20000; i++) {
    const size_t n = chance() % sizeof line;
    for (size_t j = 0; j < n; j++) line[j] = "socket=/ uid1onf\n\0x"[chance() % 19];
    free(settings_new((text){line, n}));
  }
}

static void test_answers(void) {
  char bytes[MAX_ANSWER];
  long good = 0;
  for (int i = 0; i < 300000; i++) {
    const size_t n = chance() % 40;
    for (size_t j = 0; j < n; j++) bytes[j] = (char)(chance() % 4 ? chance() % 6 : chance());
    if (i % 2 && n >= sizeof subject_alice) memcpy(bytes, subject_alice, sizeof subject_alice);
    char *exact = malloc(n ? n : 1); // so that the sanitizer sees a byte too far
    memcpy(exact, bytes, n);
    answer a;
    good += answer_read(&a, exact, n, 2);
    free(exact);
  }
  if (good == 0) FAIL("no answer was good");
}

// broken_read is entry_read without the second look at the sequence.
static int broken_read(entry *to, const uint64_t *w, key128 key) {
  const uint64_t sequence = ACQUIRE(&w[0]);
  if (!sequence || sequence & 1 || ACQUIRE(&w[1]) != key.word[0]) return MISS_UNKNOWN;
  to->size = ACQUIRE(&w[5]);
  for (uint64_t i = 0; i < (to->size + 7) / 8; i++) to->answer[i] = ACQUIRE(&w[8 + i]);
  return -1;
}

static uint64_t torn_entry[MAX_STRIDE / 8];
static bool torn_done;

static void *torn_writer(void *argument) {
  char letters[256];
  for (unsigned i = 0; !ACQUIRE(&torn_done); i++) {
    memset(letters, 'a' + (int)(i % 26), sizeof letters);
    entry_write(torn_entry, (key128){{7, 8}}, UINT64_MAX, letters, sizeof letters);
    if (i % 16 == 0) usleep(1); // else hardly any reader finds the entry whole
  }
  return argument;
}

static bool torn(const entry *e) {
  const char *letters = (const char *)e->answer;
  for (size_t i = 1; i < e->size; i++)
    if (letters[i] != letters[0]) return true;
  return false;
}

static void test_torn_reads(long reads) {
  pthread_t thread;
  pthread_create(&thread, NULL, torn_writer, NULL);
  long read = 0, broken = 0;
  const time_t limit = time(NULL) + 20;
  for (long i = 0; (read < reads || !broken) && time(NULL) < limit; i++) {
    entry e;
    if (entry_read(&e, torn_entry, MAX_STRIDE / 8, (key128){{7, 8}}, 0, 1, 1) < 0) {
      read++;
      if (torn(&e)) FAIL("a torn entry was read");
    }
    broken += broken_read(&e, torn_entry, (key128){{7, 8}}) < 0 && torn(&e);
  }
  RELEASE(&torn_done, true);
  pthread_join(thread, NULL);
  if (read < reads / 10 || !broken) FAIL("%ld entries were read, and the broken reader read %ld torn ones: the test shows nothing", read, broken);
  printf("torn reads: 0 of %ld; without the second look %ld\n", read, broken);
}

// test_versions runs this program as the Envoy that is asked for its version.
static void test_versions(void) {
  const struct {
    const char *version;
    bool fits;
  } versions[] = {{"1.40.0", true}, {"1.40.7", true}, {"1.4.0", false}, {"1.400.0", false}, {"1.39.4", false}, {"1.41.0", false}, {"", false}};
  for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
    char line[100];
    snprintf(line, sizeof line, "envoy  version: 6a2e/%s/Clean/RELEASE/BoringSSL", versions[i].version);
    if (version_fits(line) != versions[i].fits) FAIL("version \"%s\": got %d", versions[i].version, !versions[i].fits);
  }
  if (module_fits()) FAIL("a program that is no Envoy 1.40 fits");
}

// ---- all of it together: workers, lives of a replica, lies ----

static char socket_path[64];
static bool over;
static long known_requests;

static void serve_life(int listener, bool lies) {
  struct pollfd wait = {listener, POLLIN, 0};
  const int fd = poll(&wait, 1, 2000) > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
  if (fd < 0) FAIL("the module does not connect");
  hello_message hello;
  if (recv(fd, &hello, sizeof hello, 0) != sizeof hello || hello.kind != HELLO) FAIL("the module says no hello");
  replica r = replica_new();
  replica_admit(&r, TEXT("token"));
  table_message m = {TABLE, r.table_size, r.ring_size};
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(2 * sizeof(int))];
  } control = {.head = {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.head), (int[]){r.table_fd, r.ring_fd}, 2 * sizeof(int));
  struct iovec part = {&m, sizeof m};
  const struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  if (sendmsg(fd, &h, MSG_NOSIGNAL) < 0) FAIL("sendmsg: %s", strerror(errno));
  // An honest life lasts until a request was known. A replica that lies may never have one.
  const long before = RELAXED(&known_requests);
  for (int beat = 0; lies ? beat < 100 : RELAXED(&known_requests) == before; beat++) {
    if (beat == 10000) FAIL("no request is known after 10 s with a good table");
    RELEASE(&r.head->beat, RELAXED(&r.head->beat) + 1);
    for (int i = 0; lies && i < 2000; i++) { // anything but the head's beginning may change at any time
      uint64_t *at = (uint64_t *)(r.table + 88 + chance() % ((r.table_size - 88) / 8) * 8);
      RELEASE(at, chance() % 3 ? chance() : chance() % 70);
      if (i % 100 == 0) {
        replica_admit(&r, TEXT("token"));
        r.head->open = 1, RELEASE(&r.head->epoch, 1ull), RELEASE(&r.head->audit, 0ull);
      }
    }
    usleep(1000);
  }
  close(fd);
  replica_free(&r);
}

static void *run_worker(void *config) {
  while (!ACQUIRE(&over)) {
    fake r = {.policy = TEXT("default"), .count = 3};
    r.headers[0] = (field){TEXT(":path"), TEXT("/")};
    r.headers[1] = (field){TEXT("authorization"), chance() % 8 ? TEXT("Bearer token") : TEXT("bearer  other")};
    r.headers[2] = (field){chance() % 16 ? TEXT("accept") : TEXT("x_jwt.subject"), TEXT("x")};
    const void *stream = envoy_dynamic_module_on_http_filter_new(config, &r);
    envoy_dynamic_module_on_http_filter_request_headers(&r, stream, true);
    if (r.known) __atomic_fetch_add(&known_requests, 1, __ATOMIC_RELAXED);
    envoy_dynamic_module_on_http_filter_destroy(stream);
  }
  return NULL;
}

static void test_lives(int lives) {
  snprintf(socket_path, sizeof socket_path, "/tmp/rescind-check-%d.sock", getpid());
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strcpy(at.sun_path, socket_path);
  unlink(socket_path);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4)) FAIL("%s: %s", socket_path, strerror(errno));
  char line[160];
  const int n = snprintf(line, sizeof line, "socket=%s uid=%u", socket_path, getuid());
  const void *config = envoy_dynamic_module_on_http_filter_config_new(NULL, TEXT("rescind"), (text){line, (size_t)n});
  if (!config) FAIL("the configuration is refused");
  pthread_t threads[WORKERS];
  for (int i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, run_worker, (void *)config);
  for (int i = 0; i < lives; i++) serve_life(listener, i % 2);
  RELEASE(&over, true);
  for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
  unlink(socket_path);
  envoy_dynamic_module_on_http_filter_config_destroy(config);
  printf("%d lives of a replica: %ld known requests\n", lives, known_requests);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--version")) return puts("check  version: 6a2e/1.39.0/Clean"), 0;
  const int lives = argc > 1 ? atoi(argv[1]) : 20;
  test_versions();
  test_mapping();
  test_settings();
  test_answers();
  test_torn_reads(lives * 5000L);
  test_lives(lives);
  puts("PASS");
  return 0;
}
