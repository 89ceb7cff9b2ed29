// The memory that a replica and an Envoy share, and the messages between them. The
// package envoy/known has the same layout in Go, and a test of it compares the two.
//
// The replica owns the table: it writes, and its seals let nobody else write, make
// it smaller or map it writable. Each Envoy has a ring of its own, which the Envoy
// writes and the replica reads. All words have 8 bytes in the order of the machine,
// because both programs run on one machine.
//
// # An entry
//
// An entry stands for a token that the replica has verified and allowed under one
// policy. Word 0 is its sequence: 0 means never used, odd means being written. Words 1
// and 2 are the key, word 3 the epoch, word 4 the end in Unix seconds, word 5 the
// size of the answer with the policy above it. The answer follows from word 8.
//
// The reader loads every word with acquire order and looks at the sequence again at
// the end. If the sequence is odd or has changed, the token counts as unknown. There is no
// fence and no second try.
#pragma once

#include "siphash.h"

#include <stddef.h>
#include <stdint.h>

#define TABLE_MAGIC 0x31306e776f6e6b72 // "rknown01"
#define RING_MAGIC 0x3130676e69726b72  // "rkring01"
enum {
  LAYOUT = 1,
  MAX_NAMES = 32,       // of headers that the product sets
  NAME_SIZE = 48,       // of a header or a policy, with a zero byte
  MAX_POLICIES = 64,
  MAX_ANSWER = 960,     // bytes
  ENTRY_HEAD = 64,      // bytes before the answer
  MAX_STRIDE = 1024,    // bytes of an entry
  PAGE = 4096,
  MAX_WORKERS = 64,
  MAX_CELLS = 1 << 20,  // of a worker
};

// table_head is the first two pages of a table. Fields after beat, up to audit,
// change while the table is in use, and are loaded with acquire order.
typedef struct {
  uint64_t magic, layout, size;
  uint64_t index_at, buckets;             // buckets is a power of two
  uint64_t entries_at, entries, stride;   // stride is a multiple of 64
  uint64_t names, policies;
  uint64_t hide_authorization;            // 1: the upstream gets no Authorization header
  uint64_t beat;                          // grows every 50 ms, as long as the replica applies revocations
  uint64_t open;                          // 1: entries may be used
  uint64_t epoch;                         // an entry of another epoch is void
  uint64_t revision;                      // of the revocations in force
  uint64_t audit;                         // one known request in so many asks the replica; 0: none
  char prefix[NAME_SIZE];                 // of the headers that the product owns, in lower case
  char name[MAX_NAMES][NAME_SIZE];        // of headers that the product sets, in lower case
  char reserved[PAGE - 16 * 8 - NAME_SIZE - MAX_NAMES * NAME_SIZE];
  struct {
    key128 secret; // makes the keys of tokens under this policy
    char name[NAME_SIZE];
  } policy[MAX_POLICIES];
} table_head;

// A bucket is one cache line. tag is the two halves of the key, one xor the other.
typedef struct {
  struct {
    uint64_t tag;
    uint64_t entry; // its number + 1; 0: none
  } slot[4];
} bucket;

// An answer is a row of items: kind, number of the name, size (2 bytes), value.
// SAME_VALUE in place of a size stands for the value of that header.
enum { ITEM_HEADER, ITEM_ISSUER, ITEM_SUBJECT, ITEM_TOKEN_ID, ITEM_KINDS };
#define SAME_VALUE 0xffff

// ring_head is the first page of a ring. The rings of the workers follow, and after
// them a byte for each entry, which a worker sets when it uses the entry.
typedef struct {
  uint64_t magic, layout, size;
  uint64_t workers, cells; // cells is a power of two
  uint64_t used_at, entries;
} ring_head;

// worker_ring belongs to one worker, which alone writes all but head. Its cells follow.
typedef struct {
  _Alignas(64) uint64_t tail; // cells ever written
  uint64_t hits, drops;       // drops: known requests without a cell, because all were full
  uint64_t unwatched;         // open streams that were too many to be watched
  _Alignas(64) uint64_t head; // cells ever read
  _Alignas(64) uint64_t misses[8]; // by the reasons below
} worker_ring;

enum { MISS_REQUEST, MISS_CLOSED, MISS_UNKNOWN, MISS_ENDED, MISS_RACE, MISS_AUDIT, MISS_ANSWER, MISS_KINDS };

// cell is one known request.
typedef struct {
  uint64_t time; // Unix nanoseconds
  uint64_t entry, sequence;
  uint32_t policy;
  uint8_t worker, address; // address: 4 or 6; 0: unknown
  uint16_t reserved;
  uint64_t id[2]; // of the decision
  uint8_t ip[16];
} cell;

_Static_assert(sizeof(table_head) == PAGE + MAX_POLICIES * 64, "layout");
_Static_assert(offsetof(table_head, policy) == PAGE, "layout");
_Static_assert(sizeof(bucket) == 64 && sizeof(cell) == 64 && sizeof(worker_ring) == 192, "layout");

// Messages over the socket (SOCK_SEQPACKET). The first word of each is its kind. The
// module says hello, and the replica answers with the sizes and the descriptors of
// table and ring. After that the module reports streams that open and close, and the
// replica names those that must end.
enum { HELLO = 1, TABLE, STREAM_OPENED, STREAM_CLOSED, STREAM_END };
typedef struct {
  uint64_t kind, magic, layout, workers;
} hello_message;
typedef struct {
  uint64_t kind, table_size, ring_size;
} table_message;
typedef struct {
  uint64_t kind, stream;
  uint32_t policy_size, token_size; // of STREAM_OPENED; the two texts follow
} stream_message;

#define ACQUIRE(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define RELAXED(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define RELEASE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
