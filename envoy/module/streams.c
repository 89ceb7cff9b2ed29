#define _GNU_SOURCE
#include "streams.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { WAITS, UNREPORTED, REPORTED };

struct stream {
  uint64_t number; // its place in the lowest 16 bits
  uint64_t round;  // of streams_ask, the last one that came by
  void *scheduler;
  text policy, token;
  stream *prev, *next; // in the row of its state
  uint32_t rounds;     // that came by
  int state;
};

typedef struct {
  stream *first, *last;
} row;

struct streams {
  pthread_mutex_t lock; // held for operations in memory, for events to a few workers, and for one send that does not wait
  stream *at[MAX_STREAMS];
  uint16_t places[MAX_STREAMS]; // free ones, the first `free` of them
  uint32_t free, waiting_count;
  uint64_t numbers; // given so far
  uint64_t round;   // of streams_ask; the thread's own
  size_t bytes, waiting_bytes;
  row rows[REPORTED]; // of the streams that wait, and of those to report
  // Numbers of closed streams to report. There is one for each stream that was
  // reported, so all find a place.
  uint64_t closed[MAX_STREAMS];
  uint32_t closed_first, closed_count;
};

streams *streams_new(void) {
  streams *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  pthread_mutex_init(&s->lock, NULL);
  for (uint32_t i = 0; i < MAX_STREAMS; i++) s->places[i] = (uint16_t)(MAX_STREAMS - 1 - i);
  s->free = MAX_STREAMS;
  return s;
}

// The caller holds the lock, here and in the functions of the same kind below.
static void push(streams *s, stream *one, int state) {
  row *r = &s->rows[state];
  one->state = state;
  one->prev = r->last;
  one->next = NULL;
  *(r->last ? &r->last->next : &r->first) = one;
  r->last = one;
}

static void pull(streams *s, stream *one) {
  row *r = &s->rows[one->state];
  *(one->prev ? &one->prev->next : &r->first) = one->next;
  *(one->next ? &one->next->prev : &r->last) = one->prev;
}

static size_t size_of(const stream *one) { return sizeof *one + one->policy.n + one->token.n; }

static bool has_room(const streams *s, size_t size, bool let_in) {
  if (!s->free || s->bytes + size > MAX_STREAM_BYTES) return false;
  return let_in || (s->waiting_count < MAX_WAITING && s->waiting_bytes + size <= MAX_WAITING_BYTES);
}

static void count_waiting(streams *s, const stream *one, int by) {
  s->waiting_count += (uint32_t)by;
  s->waiting_bytes += (size_t)by * size_of(one);
}

stream *streams_add(streams *s, text policy, text token, void *scheduler, bool let_in) {
  stream *one = malloc(sizeof *one);
  if (!one) return NULL;
  *one = (stream){.scheduler = scheduler, .policy = policy, .token = token};

  pthread_mutex_lock(&s->lock);
  if (!has_room(s, size_of(one), let_in)) {
    pthread_mutex_unlock(&s->lock);
    free(one);
    return NULL;
  }
  const uint16_t place = s->places[--s->free];
  one->number = ++s->numbers << 16 | place;
  s->at[place] = one;
  s->bytes += size_of(one);
  push(s, one, let_in ? UNREPORTED : WAITS);
  if (!let_in) count_waiting(s, one, 1);
  pthread_mutex_unlock(&s->lock);
  return one;
}

void streams_let_in(streams *s, stream *one) {
  pthread_mutex_lock(&s->lock);
  if (one->state == WAITS) {
    count_waiting(s, one, -1);
    pull(s, one);
    push(s, one, UNREPORTED);
  }
  pthread_mutex_unlock(&s->lock);
}

void streams_remove(streams *s, stream *one) {
  const uint16_t place = (uint16_t)one->number;
  pthread_mutex_lock(&s->lock);
  s->at[place] = NULL;
  s->places[s->free++] = place;
  s->bytes -= size_of(one);
  if (one->state == WAITS) count_waiting(s, one, -1);
  if (one->state == REPORTED) {
    s->closed[(s->closed_first + s->closed_count++) % MAX_STREAMS] = one->number;
  } else {
    pull(s, one);
  }
  pthread_mutex_unlock(&s->lock);
  ENVOY(http_filter_scheduler_delete)(one->scheduler);
  free(one);
}

// due reports whether a stream is asked in its round n: in the first, second, fourth,
// and every eighth. A check takes a few milliseconds, so most are asked once.
static bool due(uint32_t n) { return !(n & (n - 1)) || n % 8 == 0; }

// ask_next asks the stream that has waited longest for this round. It returns false if
// the round is at its end.
static bool ask_next(streams *s) {
  stream *one = s->rows[WAITS].first;
  if (!one || one->round == s->round) return false;
  pull(s, one);
  push(s, one, WAITS);
  one->round = s->round;
  if (due(++one->rounds)) ENVOY(http_filter_scheduler_commit)(one->scheduler, ASK);
  return true;
}

void streams_ask(streams *s) {
  enum { AT_ONCE = 64 }; // workers wait for the lock
  s->round++;
  for (bool more = true; more;) {
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < AT_ONCE && more; i++) more = ask_next(s);
    pthread_mutex_unlock(&s->lock);
  }
}

void streams_report_all(streams *s) {
  pthread_mutex_lock(&s->lock);
  s->closed_count = 0;
  for (uint32_t i = 0; i < MAX_STREAMS; i++)
    if (s->at[i] && s->at[i]->state == REPORTED) push(s, s->at[i], UNREPORTED);
  pthread_mutex_unlock(&s->lock);
}

enum { SENT, NONE, FULL, FAILED };

static int send_now(int socket, struct iovec *parts, size_t n) {
  const struct msghdr m = {.msg_iov = parts, .msg_iovlen = n};
  if (sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return SENT;
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS ? FULL : FAILED;
}

// report_one sends one report. A stream that closes after its opening is reported
// after it, because both are sent under the lock and a stream is only closed by number
// once it was reported.
static int report_one(streams *s, int socket) {
  if (s->closed_count) {
    stream_message m = {.kind = STREAM_CLOSED, .stream = s->closed[s->closed_first]};
    const int result = send_now(socket, &(struct iovec){&m, sizeof m}, 1);
    if (result == SENT) {
      s->closed_first = (s->closed_first + 1) % MAX_STREAMS;
      s->closed_count--;
    }
    return result;
  }
  stream *one = s->rows[UNREPORTED].first;
  if (!one) return NONE;
  stream_message m = {STREAM_OPENED, one->number, (uint32_t)one->policy.n, (uint32_t)one->token.n};
  struct iovec parts[] = {{&m, sizeof m}, {(void *)one->policy.at, one->policy.n}, {(void *)one->token.at, one->token.n}};
  const int result = send_now(socket, parts, 3);
  if (result == SENT) {
    pull(s, one);
    one->state = REPORTED;
  }
  return result;
}

bool streams_report(streams *s, int socket) {
  for (;;) {
    pthread_mutex_lock(&s->lock);
    const int result = report_one(s, socket);
    pthread_mutex_unlock(&s->lock);
    if (result != SENT) return result != FAILED;
  }
}

void streams_end(streams *s, uint64_t number) {
  pthread_mutex_lock(&s->lock);
  const stream *one = s->at[(uint16_t)number];
  // The lock keeps the scheduler alive. The stream may be gone when its worker sees
  // the event, and then Envoy drops the event.
  if (one && one->number == number) ENVOY(http_filter_scheduler_commit)(one->scheduler, number);
  pthread_mutex_unlock(&s->lock);
}
