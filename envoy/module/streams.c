#define _GNU_SOURCE
#include "streams.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct stream {
  uint64_t number; // its place in the lowest 16 bits
  void *scheduler;
  bool reported;
  stream *prev, *next; // among those to report, if reported is false
  uint32_t policy_size, token_size;
  char texts[];
};

struct streams {
  int wake;
  pthread_mutex_t lock; // held for operations in memory, and for one send that does not wait
  stream *at[MAX_STREAMS];
  uint16_t places[MAX_STREAMS]; // free ones, the first `free` of them
  uint32_t free;
  uint64_t numbers; // given so far
  size_t bytes;
  stream *first, *last; // to report
  // Numbers of closed streams to report. There is one for each stream that was
  // reported, so all find a place.
  uint64_t closed[MAX_STREAMS];
  uint32_t closed_first, closed_count;
};

streams *streams_new(int wake) {
  streams *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->wake = wake;
  pthread_mutex_init(&s->lock, NULL);
  for (uint32_t i = 0; i < MAX_STREAMS; i++) s->places[i] = (uint16_t)(MAX_STREAMS - 1 - i);
  s->free = MAX_STREAMS;
  return s;
}

static void signal_thread(const streams *s) {
  const uint64_t one = 1;
  // A full counter means that the thread is about to wake up anyway.
  if (write(s->wake, &one, sizeof one) < 0) return;
}

// The caller holds the lock, here and in the functions of the same kind below.
static void push(streams *s, stream *one) {
  one->reported = false;
  one->prev = s->last;
  one->next = NULL;
  *(s->last ? &s->last->next : &s->first) = one;
  s->last = one;
}

static void pull(streams *s, stream *one) {
  *(one->prev ? &one->prev->next : &s->first) = one->next;
  *(one->next ? &one->next->prev : &s->last) = one->prev;
}

stream *streams_add(streams *s, text policy, text token, void *scheduler) {
  const size_t size = sizeof(stream) + policy.n + token.n;
  stream *one = malloc(size);
  if (!one) return NULL;
  *one = (stream){.scheduler = scheduler, .policy_size = (uint32_t)policy.n, .token_size = (uint32_t)token.n};
  memcpy(one->texts, policy.at, policy.n);
  memcpy(one->texts + policy.n, token.at, token.n);

  pthread_mutex_lock(&s->lock);
  if (!s->free || s->bytes + size > MAX_STREAM_BYTES) {
    pthread_mutex_unlock(&s->lock);
    free(one);
    return NULL;
  }
  const uint16_t place = s->places[--s->free];
  one->number = ++s->numbers << 16 | place;
  s->at[place] = one;
  s->bytes += size;
  const bool first = !s->first;
  push(s, one);
  pthread_mutex_unlock(&s->lock);
  if (first) signal_thread(s);
  return one;
}

void streams_remove(streams *s, stream *one) {
  const uint16_t place = (uint16_t)one->number;
  pthread_mutex_lock(&s->lock);
  s->at[place] = NULL;
  s->places[s->free++] = place;
  s->bytes -= sizeof(stream) + one->policy_size + one->token_size;
  if (one->reported) {
    s->closed[(s->closed_first + s->closed_count++) % MAX_STREAMS] = one->number;
  } else {
    pull(s, one);
  }
  pthread_mutex_unlock(&s->lock); // no report is urgent: the thread looks every 50 ms
  ENVOY(http_filter_scheduler_delete)(one->scheduler);
  free(one);
}

void streams_report_all(streams *s) {
  pthread_mutex_lock(&s->lock);
  s->closed_count = 0;
  for (uint32_t i = 0; i < MAX_STREAMS; i++)
    if (s->at[i] && s->at[i]->reported) push(s, s->at[i]);
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
  stream *one = s->first;
  if (!one) return NONE;
  stream_message m = {STREAM_OPENED, one->number, one->policy_size, one->token_size};
  struct iovec parts[] = {{&m, sizeof m}, {one->texts, one->policy_size + one->token_size}};
  const int result = send_now(socket, parts, 2);
  if (result == SENT) {
    pull(s, one);
    one->reported = true;
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
