// The mapping of a table and a ring. Nothing of the memory is believed: all sizes are
// checked against the sizes of the descriptors, whose seals forbid to change them.
#define _GNU_SOURCE
#include "attach.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

static bool sealed(int fd, int seals, uint64_t size) {
  struct stat s;
  int got = fcntl(fd, F_GET_SEALS);
  return got >= 0 && (got & seals) == seals && !fstat(fd, &s) && (uint64_t)s.st_size == size;
}

static bool power_of_two(uint64_t n) { return n && !(n & (n - 1)); }

static bool copy_name(small_name *to, const char from[NAME_SIZE]) {
  to->n = (uint16_t)strnlen(from, NAME_SIZE);
  memcpy(to->text, from, to->n);
  return to->n > 0 && to->n < NAME_SIZE;
}

// copy_words copies memory that another process may write meanwhile.
static void copy_words(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size / 8; i++) ((uint64_t *)to)[i] = RELAXED((const uint64_t *)from + i);
}

// take_table copies all that the requests need from a head, and checks it.
static bool take_table(attachment *a, const table_head *h, const char *at) {
  const uint64_t size = a->table_size;
  if (h->magic != TABLE_MAGIC || h->layout != LAYOUT || h->size != size) return false;
  if (!power_of_two(h->buckets) || h->buckets > 1u << 30) return false;
  if (!h->entries || h->entries > 1u << 30) return false;
  if (h->stride <= ENTRY_HEAD || h->stride > MAX_STRIDE || h->stride % 64) return false;
  if (h->index_at < sizeof *h || h->index_at % 64 || h->index_at > size) return false;
  if (h->buckets * sizeof(bucket) > size - h->index_at) return false;
  if (h->entries_at < sizeof *h || h->entries_at % 64 || h->entries_at > size) return false;
  if (h->entries * h->stride > size - h->entries_at) return false;
  if (h->names > MAX_NAMES || h->policies > MAX_POLICIES) return false;

  a->index = (const bucket *)(at + h->index_at);
  a->entries = (const uint64_t *)(at + h->entries_at);
  a->bucket_mask = h->buckets - 1;
  a->entry_count = h->entries;
  a->entry_words = h->stride / 8;
  a->names = (int)h->names;
  a->policies = (int)h->policies;
  a->hide_authorization = h->hide_authorization == 1;
  bool ok = copy_name(&a->prefix, h->prefix);
  for (int i = 0; i < a->names; i++) ok = copy_name(&a->header[i], h->name[i]) && ok;
  for (int i = 0; i < a->policies; i++) {
    a->secret[i] = h->policy[i].secret;
    ok = copy_name(&a->policy[i], h->policy[i].name) && ok;
  }
  return ok;
}

static bool take_ring(attachment *a, const ring_head *h) {
  if (h->magic != RING_MAGIC || h->layout != LAYOUT || h->size != a->ring_size) return false;
  if (!h->workers || h->workers > MAX_WORKERS || !power_of_two(h->cells) || h->cells > MAX_CELLS) return false;
  const uint64_t end = PAGE + h->workers * (sizeof(worker_ring) + h->cells * sizeof(cell));
  if (h->used_at < end || h->used_at > a->ring_size) return false;
  if (h->entries != a->entry_count || h->entries > a->ring_size - h->used_at) return false;
  a->workers = h->workers;
  a->cells = h->cells;
  a->used = (uint8_t *)a->ring + h->used_at;
  return true;
}

void attachment_unmap(attachment *a) {
  if (a->head) munmap((void *)a->head, a->table_size);
  if (a->ring) munmap(a->ring, a->ring_size);
  free(a);
}

attachment *attachment_map(int table, int ring, uint64_t table_size, uint64_t ring_size, const char **reason) {
  const int fixed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  *reason = "the memory is not sealed, or has another size than announced";
  if (table_size < sizeof(table_head) || table_size > 1ull << 40 || ring_size < PAGE || ring_size > 1ull << 36) return NULL;
  if (!sealed(table, fixed | F_SEAL_FUTURE_WRITE, table_size) || !sealed(ring, fixed, ring_size)) return NULL;

  *reason = "there is not enough memory";
  attachment *a = calloc(1, sizeof *a);
  table_head *head = malloc(sizeof *head); // a copy: a value that was checked is the one that is used
  if (!a || !head) {
    free(a);
    free(head);
    return NULL;
  }
  a->table_size = table_size;
  a->ring_size = ring_size;
  void *t = mmap(NULL, table_size, PROT_READ, MAP_SHARED, table, 0);
  void *r = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
  a->head = t == MAP_FAILED ? NULL : t;
  a->ring = r == MAP_FAILED ? NULL : r;
  if (a->head && a->ring) {
    *reason = "the memory has a layout that this module does not know; install the module of the replica's version";
    ring_head ring_copy;
    copy_words(head, a->head, sizeof *head);
    copy_words(&ring_copy, a->ring, sizeof ring_copy);
    if (take_table(a, head, t) && take_ring(a, &ring_copy)) {
      free(head);
      return a;
    }
  }
  free(head);
  attachment_unmap(a);
  return NULL;
}
