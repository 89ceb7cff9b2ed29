// The reader of an entry.
#pragma once

#include "table.h"

// entry is a copy of an entry's answer.
typedef struct {
  uint64_t number, sequence;
  size_t size;
  uint64_t answer[MAX_ANSWER / 8];
} entry;

// entry_read copies the entry at w if it stands for this key and policy now. It returns
// a MISS otherwise. words is the size of the entry in words.
static inline int entry_read(entry *to, const uint64_t *w, uint64_t words, key128 key, uint64_t policy, uint64_t epoch, uint64_t now) {
  const uint64_t sequence = ACQUIRE(&w[0]);
  if (!sequence || sequence & 1) return MISS_UNKNOWN;
  const uint64_t k0 = ACQUIRE(&w[1]), k1 = ACQUIRE(&w[2]), of_epoch = ACQUIRE(&w[3]), ends = ACQUIRE(&w[4]), shape = ACQUIRE(&w[5]);
  if (k0 != key.word[0] || k1 != key.word[1] || shape >> 32 != policy) return MISS_UNKNOWN;
  if (of_epoch != epoch || ends <= now) return MISS_ENDED;
  const uint64_t size = (uint32_t)shape;
  if (size > MAX_ANSWER || size + ENTRY_HEAD > words * 8) return MISS_ANSWER;
  for (uint64_t i = 0; i < (size + 7) / 8; i++) to->answer[i] = ACQUIRE(&w[ENTRY_HEAD / 8 + i]);
  if (RELAXED(&w[0]) != sequence) return MISS_RACE;
  to->sequence = sequence;
  to->size = size;
  return -1;
}
