// Tests of the module without Envoy: make -C envoy/module check
//
// The program is Envoy and the replica at once. envoy.c has the callbacks that the
// module calls, and replica.c makes tables. The program runs with the address and
// undefined behaviour sanitizers, and with the thread sanitizer.
#pragma once

#include "../attach.h"
#include "../watch.h"

#include <stdio.h>
#include <stdlib.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

#define FAIL(...) (fprintf(stderr, "FAIL %s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))
#define COUNT(array) (sizeof(array) / sizeof *(array))

// chance returns a number of a fixed row of random numbers, which differs from thread
// to thread.
uint64_t chance(void);
void chance_begin(uint64_t seed);

// ---- Envoy (envoy.c) ----

enum { HEADERS = 160 };

// fake is a request in this Envoy.
typedef struct {
  field headers[HEADERS], response[4];
  size_t count, response_count;
  text policy;   // in the metadata of the route
  text decision; // in the metadata of ext_authz; at is NULL before it has decided
  bool has_known, known, reset;
  int set;
  uint32_t asks, ends; // events that the module has sent to the stream
  uint64_t end;        // the last one of ends
} fake;

extern bool pauses;         // some requests stand still while they use the table
extern uint32_t pausing;    // how many did so far
extern uint32_t schedulers; // that exist
extern uint32_t complaints; // lines of the log about the socket of another user

extern const void *envoy_dynamic_module_on_http_filter_config_new(void *envoy, text filter, text value);
extern void envoy_dynamic_module_on_http_filter_config_destroy(const void *s);
extern const void *envoy_dynamic_module_on_http_filter_new(const void *s, void *filter);
extern void envoy_dynamic_module_on_http_filter_destroy(const void *state);
extern int envoy_dynamic_module_on_http_filter_request_headers(void *filter, const void *state, bool last);
extern int envoy_dynamic_module_on_http_filter_response_headers(void *filter, const void *state, bool last);
extern void envoy_dynamic_module_on_http_filter_scheduled(void *filter, const void *state, uint64_t event);

// ---- the replica (replica.c) ----

enum { ENTRIES = 64, STRIDE = 320, BUCKETS = 32, CELLS = 256, WORKERS = 4 };

typedef struct {
  int table_fd, ring_fd;
  uint64_t table_size, ring_size, announced; // announced: as the size of the table
  table_head *head;
  char *table, *ring;
} replica;

// subject_alice is an answer.
extern const char subject_alice[13];

char *shared_memory(int *fd, uint64_t size, int seals);
replica replica_new(void);
void replica_free(replica *r);
void replica_admit(replica *r, text token);

// entry_write is the writer of the package envoy/known, in C.
void entry_write(uint64_t *w, key128 key, uint64_t ends, const char *bytes, size_t n);

// ---- tests ----

void test_versions(void);
void test_mapping(void);
void test_settings(void);
void test_answers(void);
void test_torn_reads(long reads);
void test_torn_reads_of_killed_writers(int kills);
void test_rules_of_streams(void);
void test_reports_of_streams(void);
void test_bounds_of_streams(void);
void test_another_user(void);
void test_messages(void);
void test_lives(int lives);
