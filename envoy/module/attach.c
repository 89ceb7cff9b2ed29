#define _GNU_SOURCE
#include "attach.h"
#include "log.h"
#include "streams.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ALIVE_NS = 1000000000, BEAT_MS = 50, BEAT_NS = BEAT_MS * 1000000, ANSWER_S = 2, RETRY_MS = 10, RETRY_MOST_MS = 500 };

// A reason for which there is no table is logged if it lasts for some tries, and again
// after a minute.
enum { SENTENCE = 320, PATIENCE_MS = 160 };
static const uint64_t SAID_NS = 60000000000;

struct source {
  char path[sizeof((struct sockaddr_un){0}).sun_path];
  uint32_t uid, workers;
  attachment *current;
  uint64_t alive_until; // nanoseconds of CLOCK_BOOTTIME
  streams *open;
  source *next;
  // The thread's own:
  attachment *retired;       // not yet unmapped
  char why[SENTENCE];        // there is no table
  char said[SENTENCE];       // the last why that was logged
  uint64_t said_until;       // it is logged again from then on
};

// A worker writes the attachment that it holds into its slot. The thread unmaps an
// attachment that is no longer current once no slot has it.
static struct {
  _Alignas(64) const attachment *held;
} slots[MAX_WORKERS];

static source *sources;
static pthread_mutex_t sources_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t boot_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t); // goes on while the machine sleeps, so a machine wakes up with a dead replica
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool source_alive(const source *s) { return boot_time() < ACQUIRE(&s->alive_until); }

streams *source_streams(source *s) { return s->open; }

const attachment *attachment_hold(const source *s, int worker) {
  const attachment *a = __atomic_load_n(&s->current, __ATOMIC_ACQUIRE);
  while (a) {
    __atomic_store_n(&slots[worker].held, a, __ATOMIC_SEQ_CST);
    const attachment *now = __atomic_load_n(&s->current, __ATOMIC_SEQ_CST);
    if (now == a) return a;
    a = now;
  }
  attachment_release(worker);
  return NULL;
}

void attachment_release(int worker) { __atomic_store_n(&slots[worker].held, NULL, __ATOMIC_RELEASE); }

static bool held(const attachment *a) {
  for (int i = 0; i < MAX_WORKERS; i++)
    if (__atomic_load_n(&slots[i].held, __ATOMIC_SEQ_CST) == a) return true;
  return false;
}

static void unmap_retired(source *s) {
  for (attachment **at = &s->retired; *at;) {
    attachment *a = *at;
    if (held(a)) {
      at = &a->next;
      continue;
    }
    *at = a->next;
    attachment_unmap(a);
  }
}

static const char *advice(int error) {
  switch (error) {
  case ENOENT: return "no replica has made this socket; compare the path with known_tokens.socket of authz.yaml";
  case ECONNREFUSED: return "no replica runs there";
  case EACCES: return "the user of Envoy may not use it; the user must be in the group of known_tokens.group";
  default: return strerror(error);
  }
}

// complain logs why there is no table.
static void complain(source *s) {
  const uint64_t now = boot_time();
  if (!strcmp(s->why, s->said) && now < s->said_until) return;
  memcpy(s->said, s->why, sizeof s->said);
  s->said_until = now + SAID_NS;
  say(LOG_WARN, "rescind: %s. Every request asks ext_authz", s->why);
}

// dial returns a socket to the replica, or -1 and the reason in why.
static int dial(source *s) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    snprintf(s->why, sizeof s->why, "no socket: %s", strerror(errno));
    return -1;
  }
  const struct timeval limit = {ANSWER_S, 0};
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  memcpy(to.sun_path, s->path, sizeof to.sun_path);
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) ||
      connect(fd, (const struct sockaddr *)&to, sizeof to) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
    snprintf(s->why, sizeof s->why, "no connection to %s: %s", s->path, advice(errno));
    close(fd);
    return -1;
  }
  if (peer.uid != s->uid) {
    snprintf(s->why, sizeof s->why, "user %u serves %s, and the configuration of the filter demands uid=%u; write the user of the replica there", peer.uid, s->path, s->uid);
    close(fd);
    return -1;
  }
  return fd;
}

// receive_table reads the answer to a hello: the sizes and two descriptors.
static bool receive_table(int socket, table_message *m, int fds[2]) {
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(2 * sizeof(int))];
  } control;
  char bytes[sizeof *m + 1];
  struct iovec part = {bytes, sizeof bytes};
  struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  const ssize_t n = recvmsg(socket, &h, MSG_CMSG_CLOEXEC);
  const struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&h) : NULL;
  if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) return false;
  const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); // at most 2 have room
  memcpy(fds, CMSG_DATA(c), count * sizeof(int));
  memcpy(m, bytes, sizeof *m);
  if (n == sizeof *m && count == 2 && !(h.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) && m->kind == TABLE) return true;
  for (size_t i = 0; i < count; i++) close(fds[i]);
  return false;
}

// greet returns the table and the ring of the replica, or NULL and the reason in why.
static attachment *greet(source *s, int socket) {
  const hello_message hello = {HELLO, TABLE_MAGIC, LAYOUT, s->workers};
  table_message m;
  int fds[2];
  snprintf(s->why, sizeof s->why, "the replica at %s gives no table; its log says why", s->path);
  if (send(socket, &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello || !receive_table(socket, &m, fds)) return NULL;
  const char *reason;
  attachment *a = attachment_map(fds[0], fds[1], m.table_size, m.ring_size, &reason);
  close(fds[0]);
  close(fds[1]);
  if (!a) snprintf(s->why, sizeof s->why, "the memory of the replica at %s is refused: %s", s->path, reason);
  return a;
}

// hear reads the messages that are there. It returns false at the end of the
// connection.
static bool hear(source *s, int socket) {
  for (;;) {
    stream_message m;
    const ssize_t n = recv(socket, &m, sizeof m, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (n != sizeof m || m.kind != STREAM_END) return false;
    streams_end(s->open, m.stream);
  }
}

// follow watches the replica until it ends. The replica's count is timed by the clock
// of this process, so the two share no clock. The count must be seen to grow before
// anything is used.
static void follow(source *s, int socket, const attachment *a) {
  uint64_t beat = ACQUIRE(&a->head->beat), round = 0;
  streams_report_all(s->open);
  for (;;) {
    struct pollfd wait = {socket, POLLIN | POLLRDHUP, 0};
    if (poll(&wait, 1, BEAT_MS) < 0 && errno != EINTR) return;
    const uint64_t now = boot_time(), last = beat;
    if ((beat = ACQUIRE(&a->head->beat)) != last) RELEASE(&s->alive_until, now + ALIVE_NS);
    if (wait.revents && (wait.revents & ~POLLIN || !hear(s, socket))) return;
    if (now < round) continue; // the replica has sent a message
    round = now + BEAT_NS;
    streams_ask(s->open);
    if (!streams_report(s->open, socket)) return;
  }
}

static void *keep(void *argument) {
  source *s = argument;
  for (unsigned pause = RETRY_MS;; pause = pause * 2 < RETRY_MOST_MS ? pause * 2 : RETRY_MOST_MS) {
    usleep(pause * 1000);
    unmap_retired(s);
    const int socket = dial(s);
    attachment *a = socket < 0 ? NULL : greet(s, socket);
    if (!a && pause >= PATIENCE_MS) complain(s);
    if (a) {
      s->said[0] = 0;
      RELEASE(&s->alive_until, 0);
      __atomic_store_n(&s->current, a, __ATOMIC_SEQ_CST);
      say(LOG_INFO, "rescind: attached to the replica at %s", s->path);
      follow(s, socket, a);
      RELEASE(&s->alive_until, 0);
      __atomic_store_n(&s->current, NULL, __ATOMIC_SEQ_CST);
      a->next = s->retired;
      s->retired = a;
      say(LOG_WARN, "rescind: the replica at %s has gone; every request asks ext_authz", s->path);
      pause = RETRY_MS;
    }
    if (socket >= 0) close(socket);
  }
  return NULL;
}

static bool start(source *s) {
  sigset_t all, old;
  pthread_t thread;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &old); // signals are Envoy's
  const int failed = pthread_create(&thread, NULL, keep, s);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (failed) return false;
  pthread_setname_np(thread, "rescind");
  pthread_detach(thread);
  return true;
}

static source *source_new(const char *path, uint32_t uid) {
  source *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  strcpy(s->path, path);
  s->uid = uid;
  s->workers = ENVOY(get_concurrency)();
  s->open = streams_new();
  if (s->open && (ENVOY(is_validation_mode)() || start(s))) return s;
  free(s->open);
  free(s);
  return NULL;
}

source *source_open(const char *path, uint32_t uid) {
  if (strlen(path) >= sizeof sources->path) return NULL;
  pthread_mutex_lock(&sources_lock);
  source *s = sources;
  while (s && (strcmp(s->path, path) || s->uid != uid)) s = s->next;
  if (!s && (s = source_new(path, uid))) {
    s->next = sources;
    sources = s;
  }
  pthread_mutex_unlock(&sources_lock);
  return s;
}
