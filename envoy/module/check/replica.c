#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const key128 secret = {{1, 2}};
static const int FIXED = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

char *shared_memory(int *fd, uint64_t size, int seals) {
  *fd = memfd_create("check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  char *at = *fd < 0 || ftruncate(*fd, (off_t)size) ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  if (at == MAP_FAILED || fcntl(*fd, F_ADD_SEALS, seals)) FAIL("no memory: %s", strerror(errno));
  return at;
}

replica replica_new(void) {
  replica r = {.table_size = sizeof(table_head) + BUCKETS * sizeof(bucket) + ENTRIES * STRIDE};
  const uint64_t used_at = PAGE + WORKERS * (sizeof(worker_ring) + CELLS * sizeof(cell));
  r.announced = r.table_size;
  r.ring_size = used_at + ENTRIES;
  r.table = shared_memory(&r.table_fd, r.table_size, FIXED | F_SEAL_FUTURE_WRITE);
  r.ring = shared_memory(&r.ring_fd, r.ring_size, FIXED);
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

void replica_free(replica *r) {
  munmap(r->table, r->table_size);
  munmap(r->ring, r->ring_size);
  close(r->table_fd);
  close(r->ring_fd);
}

void entry_write(uint64_t *w, key128 key, uint64_t ends, const char *bytes, size_t n) {
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

const char subject_alice[] = {ITEM_HEADER, 1, 5, 0, 'a', 'l', 'i', 'c', 'e', ITEM_SUBJECT, 1, (char)0xff, (char)0xff};

void replica_admit(replica *r, text token) {
  const key128 key = siphash(token.at, token.n, secret);
  uint64_t *w = (uint64_t *)(r->table + r->head->entries_at);
  entry_write(w, key, (uint64_t)time(NULL) + 3600, subject_alice, sizeof subject_alice);
  bucket *b = (bucket *)(r->table + r->head->index_at) + (key.word[0] & (BUCKETS - 1));
  RELEASE(&b->slot[0].tag, key.word[0] ^ key.word[1]);
  RELEASE(&b->slot[0].entry, 1ull);
}
