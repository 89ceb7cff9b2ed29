// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012), for 64-bit
// machines that store the low byte first.
#pragma once

#include <stdint.h>
#include <string.h>

typedef struct {
  uint64_t word[2];
} key128;

static inline uint64_t rotated(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void sip_round(uint64_t v[4]) {
  v[0] += v[1], v[1] = rotated(v[1], 13) ^ v[0], v[0] = rotated(v[0], 32);
  v[2] += v[3], v[3] = rotated(v[3], 16) ^ v[2];
  v[0] += v[3], v[3] = rotated(v[3], 21) ^ v[0];
  v[2] += v[1], v[1] = rotated(v[1], 17) ^ v[2], v[2] = rotated(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word) {
  v[3] ^= word;
  sip_round(v);
  sip_round(v);
  v[0] ^= word;
}

static inline key128 siphash(const char *in, size_t n, key128 secret) {
  const uint64_t k0 = secret.word[0], k1 = secret.word[1];
  uint64_t v[4] = {0x736f6d6570736575 ^ k0, 0x646f72616e646f6d ^ k1 ^ 0xee, 0x6c7967656e657261 ^ k0, 0x7465646279746573 ^ k1};
  uint64_t last = (uint64_t)n << 56, word;
  for (; n >= sizeof word; in += sizeof word, n -= sizeof word) {
    memcpy(&word, in, sizeof word);
    sip_word(v, word);
  }
  for (size_t i = 0; i < n; i++) last |= (uint64_t)(unsigned char)in[i] << (8 * i);
  sip_word(v, last);
  key128 out;
  v[2] ^= 0xee;
  for (int i = 0; i < 4; i++) sip_round(v);
  out.word[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
  v[1] ^= 0xdd;
  for (int i = 0; i < 4; i++) sip_round(v);
  out.word[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
  return out;
}
