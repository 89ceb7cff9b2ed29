// Reads of an entry while its writer writes, and while writers are killed.
#define _GNU_SOURCE
#include "check.h"
#include "../entry.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const key128 key = {{7, 8}};

// broken_read is entry_read without the second look at the sequence.
static int broken_read(entry *to, const uint64_t *w) {
  const uint64_t sequence = ACQUIRE(&w[0]);
  if (!sequence || sequence & 1 || ACQUIRE(&w[1]) != key.word[0]) return MISS_UNKNOWN;
  to->size = ACQUIRE(&w[5]);
  for (uint64_t i = 0; i < (to->size + 7) / 8; i++) to->answer[i] = ACQUIRE(&w[8 + i]);
  return -1;
}

static void write_letters(uint64_t *w, unsigned i) {
  char letters[256];
  memset(letters, 'a' + (int)(i % 26), sizeof letters);
  entry_write(w, key, UINT64_MAX, letters, sizeof letters);
}

static bool torn(const entry *e) {
  const char *letters = (const char *)e->answer;
  for (size_t i = 1; i < e->size; i++)
    if (letters[i] != letters[0]) return true;
  return e->size != 256;
}

typedef struct {
  long whole, broken; // reads, and torn ones of the broken reader
} reads;

static void read_once(reads *r, const uint64_t *w) {
  entry e;
  if (entry_read(&e, w, MAX_STRIDE / 8, key, 0, 1, 1) < 0) {
    r->whole++;
    if (torn(&e)) FAIL("a torn entry was read");
  }
  r->broken += broken_read(&e, w) < 0 && torn(&e);
}

static uint64_t shared_entry[MAX_STRIDE / 8];
static bool done;

static void *run_writer(void *argument) {
  for (unsigned i = 0; !ACQUIRE(&done); i++) {
    write_letters(shared_entry, i);
    if (i % 16 == 0) usleep(1); // else hardly any reader finds the entry whole
  }
  return argument;
}

void test_torn_reads(long wanted) {
  pthread_t thread;
  pthread_create(&thread, NULL, run_writer, NULL);
  reads r = {0};
  const time_t limit = time(NULL) + 20;
  while ((r.whole < wanted || !r.broken) && time(NULL) < limit) read_once(&r, shared_entry);
  RELEASE(&done, true);
  pthread_join(thread, NULL);
  if (r.whole < wanted / 10 || !r.broken) FAIL("%ld entries were read, and the broken reader read %ld torn ones: the test shows nothing", r.whole, r.broken);
  printf("   torn reads: 0 of %ld; without the second look %ld\n", r.whole, r.broken);
}

static void run_killed_writer(uint64_t *w) {
  prctl(PR_SET_PDEATHSIG, SIGKILL); // no writer outlives a test that fails
  for (unsigned n = 0;; n++) {
    write_letters(w, n);
    if (n % 32 == 0) usleep(1); // else hardly any reader finds the entry whole
  }
}

// A writer that is killed leaves an entry half written. The next one begins there. Under
// the thread sanitizer the child is a process of its own, so the sanitizer sees the reader
// alone.
void test_torn_reads_of_killed_writers(int kills) {
  uint64_t *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (w == MAP_FAILED) FAIL("no memory: %s", strerror(errno));
  reads r = {0};
  long odd = 0;
  for (int i = 0; i < kills; i++) {
    const pid_t writer = fork();
    if (writer < 0) FAIL("fork: %s", strerror(errno));
    if (!writer) run_killed_writer(w);
    // The writer is killed after its first stores, at any of them.
    const uint64_t before = ACQUIRE(&w[0]);
    const time_t limit = time(NULL) + 20;
    while (ACQUIRE(&w[0]) < before + 64 && time(NULL) < limit) read_once(&r, w);
    for (uint64_t n = chance() % 20000; n; n--) read_once(&r, w);
    kill(writer, SIGKILL);
    while (waitpid(writer, NULL, 0) < 0 && errno == EINTR) {}
    const bool half = RELAXED(&w[0]) & 1;
    odd += half;
    entry e;
    const int result = entry_read(&e, w, MAX_STRIDE / 8, key, 0, 1, 1);
    if (half ? result < 0 : result >= 0 || torn(&e)) FAIL("after a kill: half written %d, read %d", half, result);
  }
  if (kills > 10 && (!odd || !r.broken)) FAIL("%d kills left %ld entries half written, and the broken reader read %ld torn ones: the test shows nothing", kills, odd, r.broken);
  munmap(w, PAGE);
  printf("   %d writers killed, %ld of them within an entry: 0 torn reads of %ld; without the second look %ld\n", kills, odd, r.whole, r.broken);
}
