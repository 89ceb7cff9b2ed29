// The answer that an entry holds: headers for the upstream, and names for the log.
#pragma once

#include "attach.h"

typedef struct {
  text set[MAX_NAMES];     // by the number of the name; at is NULL if it is not set
  text named[ITEM_KINDS];  // issuer, subject and token ID, empty if unknown
} answer;

// answer_read reads an answer. The texts are parts of it. It returns false if the
// answer is not one that a replica writes. All is read before anything changes, and a
// value that Envoy would refuse is no answer.
bool answer_read(answer *to, const char *from, size_t n, int names);
