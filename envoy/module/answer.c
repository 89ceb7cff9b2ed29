#include "answer.h"

// is_value reports whether a header can have this value: visible ASCII, with spaces
// within.
static bool is_value(text v) {
  if (!v.n || v.at[0] == ' ' || v.at[v.n - 1] == ' ') return false;
  unsigned odd = 0;
  for (size_t i = 0; i < v.n; i++) odd |= (unsigned char)(v.at[i] - ' ') > '~' - ' ';
  return !odd;
}

bool answer_read(answer *to, const char *from, size_t n, int names) {
  enum { ITEM_HEAD = 4 };
  *to = (answer){0};
  while (n) {
    if (n < ITEM_HEAD) return false;
    const uint8_t kind = (uint8_t)from[0], number = (uint8_t)from[1];
    uint16_t size;
    memcpy(&size, from + 2, sizeof size);
    from += ITEM_HEAD, n -= ITEM_HEAD;
    if (kind >= ITEM_KINDS || number >= names) return false;
    text value;
    if (size == SAME_VALUE) {
      value = to->set[number];
      if (kind == ITEM_HEADER || !value.at) return false;
    } else {
      value = (text){from, size};
      if (size > n || !is_value(value)) return false;
      from += size, n -= size;
    }
    text *place = kind == ITEM_HEADER ? &to->set[number] : &to->named[kind];
    if (place->at) return false;
    *place = value;
  }
  return true;
}
