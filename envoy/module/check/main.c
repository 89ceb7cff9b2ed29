#define _GNU_SOURCE
#include "check.h"
#include "../answer.h"

#include <time.h>

int answer_version(void);

static __thread uint64_t state = 88172645463325252ull;

void chance_begin(uint64_t seed) { state = seed * 0x9e3779b97f4a7c15 | 1; }

uint64_t chance(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

void test_settings(void) {
  const char *bad[] = {"", "socket=/x", "uid=1", "socket=x uid=1", "socket=/x uid=-1", "socket=/x uid=1x", "socket=/x uid=4294967295", "socket=/x uid=99999999999999999999", "socket=/x uid=1 streams=yes", "socket=/x uid=1 other=on", "socket=/x uid=1 streams", "socket= uid=1", "socket=/x uid="};
  for (size_t i = 0; i < COUNT(bad); i++)
    if (settings_new((text){bad[i], strlen(bad[i])})) FAIL("the configuration \"%s\" is accepted", bad[i]);
  char line[600];
  for (int i = 0; i < 20000; i++) {
    const size_t n = chance() % sizeof line;
    for (size_t j = 0; j < n; j++) line[j] = "socket=/ uid1onf\n\0x"[chance() % 19];
    free(settings_new((text){line, n}));
  }
}

void test_answers(void) {
  char bytes[MAX_ANSWER];
  long good = 0;
  for (int i = 0; i < 300000; i++) {
    const size_t n = chance() % 40;
    for (size_t j = 0; j < n; j++) bytes[j] = (char)(chance() % 4 ? chance() % 6 : chance());
    if (i % 2 && n >= sizeof subject_alice) memcpy(bytes, subject_alice, sizeof subject_alice);
    char *exact = malloc(n ? n : 1); // so that the sanitizer sees a byte too far
    memcpy(exact, bytes, n);
    answer a;
    good += answer_read(&a, exact, n, 2);
    free(exact);
  }
  if (good == 0) FAIL("no answer was good");
}

static int lives;

static void torn_reads(void) { test_torn_reads(lives * 5000L); }
static void torn_reads_of_killed_writers(void) { test_torn_reads_of_killed_writers(lives * 5); }
static void all_lives(void) { test_lives(lives); }

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--version")) return answer_version();
  lives = argc > 1 ? atoi(argv[1]) : 20;
  const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {
      {"another version of Envoy is refused", test_versions},
      {"unsealed memory, another layout and lying sizes are refused", test_mapping},
      {"faulty configurations are refused", test_settings},
      {"no bytes of an answer do harm", test_answers},
      {"no read is torn", torn_reads},
      {"no read is torn when writers are killed", torn_reads_of_killed_writers},
      {"requests and responses that are streams", test_rules_of_streams},
      {"reports of streams to the replica", test_reports_of_streams},
      {"streams are bounded", test_bounds_of_streams},
      {"the socket of another user is refused", test_another_user},
      {"messages that the module does not know end the connection", test_messages},
      {"lives of honest, lying and hostile replicas", all_lives},
  };
  for (size_t i = 0; i < COUNT(tests); i++) {
    if (argc > 2 && !strstr(tests[i].name, argv[2])) continue;
    tests[i].run();
    printf("ok %s\n", tests[i].name);
  }
  return 0;
}
