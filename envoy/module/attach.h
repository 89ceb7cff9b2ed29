// The connection to a replica: the thread that keeps it, and the memory that it
// brings.
#pragma once

#include "abi.h"
#include "table.h"

#include <stdbool.h>

// small_name is a text of a table_head, copied and checked.
typedef struct {
  uint16_t n;
  char text[NAME_SIZE];
} small_name;

// attachment is the memory of one life of a replica. All sizes and names are copies
// that were checked, because another process may change the memory at any time.
typedef struct attachment {
  const table_head *head;
  const bucket *index;
  const uint64_t *entries;
  uint64_t bucket_mask, entry_count, entry_words, workers, cells;
  size_t table_size, ring_size;
  char *ring; // ring_head and what follows
  uint8_t *used;
  int names, policies;
  bool hide_authorization;
  small_name prefix, header[MAX_NAMES], policy[MAX_POLICIES];
  key128 secret[MAX_POLICIES];
  struct attachment *next; // among those that are retired
} attachment;

// source is a replica that configurations name. It lives as long as Envoy does,
// because a listener that drains still uses it.
typedef struct source source;

// source_open returns the source for a socket that a process of this user serves.
// Calls with the same arguments return the same source. It returns NULL if there is
// no thread to be had.
source *source_open(const char *path, uint32_t uid);

// source_streams returns the open streams that the replica hears of.
struct streams *source_streams(source *s);

// source_alive reports whether the replica has given a sign of life within a second.
bool source_alive(const source *s);

// attachment_hold returns the attachment of s, or NULL. It stays mapped until the
// worker calls attachment_release.
const attachment *attachment_hold(const source *s, int worker);
void attachment_release(int worker);

// attachment_map checks two descriptors, maps them and returns the attachment, or
// NULL and the reason.
attachment *attachment_map(int table, int ring, uint64_t table_size, uint64_t ring_size, const char **reason);
void attachment_unmap(attachment *a);

// ring_of returns the ring of a worker.
static inline worker_ring *ring_of(const attachment *a, int worker) {
  return (worker_ring *)(a->ring + PAGE + (uint64_t)worker % a->workers * (sizeof(worker_ring) + a->cells * sizeof(cell)));
}
