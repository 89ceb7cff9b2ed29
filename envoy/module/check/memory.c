// The memory that a replica offers. The module refuses a faulty one, and nobody can change it.
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

// refuses checks that a table with a change in it is not mapped.
static void refuses(const char *fault, void (*change)(replica *)) {
  replica r = replica_new();
  change(&r);
  const char *reason;
  attachment *a = attachment_map(r.table_fd, r.ring_fd, r.announced, r.ring_size, &reason);
  if (a) FAIL("%s: the memory is accepted", fault);
  replica_free(&r);
}

#define CHANGE(name, statement) \
  static void name(replica *r) { statement; }
CHANGE(other_magic, r->head->magic++)
CHANGE(other_layout, r->head->layout++)
CHANGE(other_size, r->head->size += 4096)
CHANGE(announced_larger, r->announced += 4096)
CHANGE(both_larger, r->head->size = r->announced += PAGE)
CHANGE(no_buckets, r->head->buckets = 0)
CHANGE(odd_buckets, r->head->buckets = 3)
CHANGE(many_buckets, r->head->buckets = 1ull << 30)
CHANGE(huge_buckets, r->head->buckets = 1ull << 58)
CHANGE(many_entries, r->head->entries = 1u << 30)
CHANGE(huge_entries, r->head->entries = 1ull << 60)
CHANGE(no_entries, r->head->entries = 0)
CHANGE(small_stride, r->head->stride = 64)
CHANGE(odd_stride, r->head->stride = 321)
CHANGE(index_in_head, r->head->index_at = 64)
CHANGE(index_outside, r->head->index_at = 1ull << 40)
CHANGE(entries_outside, r->head->entries_at = r->table_size)
CHANGE(entries_unaligned, r->head->entries_at += 8)
CHANGE(many_names, r->head->names = MAX_NAMES + 1)
CHANGE(many_policies, r->head->policies = MAX_POLICIES + 1)
CHANGE(endless_name, memset(r->head->name[0], 'x', NAME_SIZE))
CHANGE(no_prefix, r->head->prefix[0] = 0)
CHANGE(no_workers, ((ring_head *)r->ring)->workers = 0)
CHANGE(many_workers, ((ring_head *)r->ring)->workers = MAX_WORKERS + 1)
CHANGE(odd_cells, ((ring_head *)r->ring)->cells = 100)
CHANGE(many_cells, ((ring_head *)r->ring)->cells = MAX_CELLS)
CHANGE(used_outside, ((ring_head *)r->ring)->used_at = r->ring_size)
CHANGE(other_entries, ((ring_head *)r->ring)->entries = ENTRIES + 1)

void test_mapping(void) {
  replica r = replica_new();
  const char *reason;
  attachment *a = attachment_map(r.table_fd, r.ring_fd, r.table_size, r.ring_size, &reason);
  if (!a) FAIL("a good table is refused: %s", reason);
  attachment_unmap(a);
  replica_free(&r);
  struct {
    const char *fault;
    void (*change)(replica *);
  } faults[] = {
      {"another magic", other_magic}, {"another layout", other_layout}, {"another size", other_size}, {"a size that is announced too large", announced_larger}, {"sizes that agree, and are too large", both_larger},
      {"no buckets", no_buckets}, {"3 buckets", odd_buckets}, {"too many buckets", many_buckets}, {"buckets that overflow", huge_buckets},
      {"too many entries", many_entries}, {"entries that overflow", huge_entries}, {"no entries", no_entries}, {"a small stride", small_stride}, {"an odd stride", odd_stride},
      {"an index in the head", index_in_head}, {"an index outside", index_outside}, {"entries outside", entries_outside}, {"unaligned entries", entries_unaligned},
      {"too many names", many_names}, {"too many policies", many_policies}, {"a name without an end", endless_name}, {"no prefix", no_prefix},
      {"no workers", no_workers}, {"too many workers", many_workers}, {"100 cells", odd_cells}, {"too many cells", many_cells}, {"uses outside", used_outside}, {"other entries", other_entries},
  };
  for (size_t i = 0; i < COUNT(faults); i++) refuses(faults[i].fault, faults[i].change);

  // Every seal is needed, of the table and of the ring.
  const int seals[] = {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_FUTURE_WRITE};
  for (size_t i = 0; i < COUNT(seals); i++) {
    replica good = replica_new();
    int fd;
    char *memory = shared_memory(&fd, good.table_size, (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE) & ~seals[i]);
    memcpy(memory, good.table, good.table_size);
    if (attachment_map(fd, good.ring_fd, good.table_size, good.ring_size, &reason)) FAIL("a table without seal %d is accepted", seals[i]);
    munmap(memory, good.table_size);
    close(fd);
    memory = shared_memory(&fd, good.ring_size, (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) & ~seals[i]);
    memcpy(memory, good.ring, good.ring_size);
    a = attachment_map(good.table_fd, fd, good.table_size, good.ring_size, &reason);
    if ((a != NULL) != (seals[i] == F_SEAL_FUTURE_WRITE)) FAIL("a ring without seal %d: accepted %d", seals[i], a != NULL);
    if (a) attachment_unmap(a); // the module writes into the ring, so that seal has no place there
    munmap(memory, good.ring_size);
    close(fd);
    replica_free(&good);
  }

  // A descriptor of something else.
  replica good = replica_new();
  int other[] = {open("/dev/zero", O_RDWR | O_CLOEXEC), open("/", O_RDONLY | O_CLOEXEC), open("/proc/self/exe", O_RDONLY | O_CLOEXEC), -1};
  for (size_t i = 0; i < COUNT(other); i++) {
    if (attachment_map(other[i], good.ring_fd, good.table_size, good.ring_size, &reason)) FAIL("descriptor %zu of no memory is accepted as a table", i);
    if (attachment_map(good.table_fd, other[i], good.table_size, good.ring_size, &reason)) FAIL("descriptor %zu of no memory is accepted as a ring", i);
    close(other[i]);
  }
  const uint64_t sizes[] = {0, 1, PAGE - 1, PAGE, good.table_size - 1, good.table_size + 1, good.ring_size + 1, 1ull << 40, 1ull << 63, UINT64_MAX};
  for (size_t i = 0; i < COUNT(sizes); i++) {
    if (attachment_map(good.table_fd, good.ring_fd, sizes[i], good.ring_size, &reason)) FAIL("a table of the size %lu is accepted", sizes[i]);
    if (attachment_map(good.table_fd, good.ring_fd, good.table_size, sizes[i], &reason)) FAIL("a ring of the size %lu is accepted", sizes[i]);
  }

  // Not even this process, which may be that of root, can change the sealed memory.
  if (!ftruncate(good.table_fd, 0) || errno != EPERM) FAIL("a sealed table can be made smaller");
  if (!ftruncate(good.table_fd, 1 << 24) || errno != EPERM) FAIL("a sealed table can be made larger");
  if (!ftruncate(good.ring_fd, 0) || errno != EPERM) FAIL("a sealed ring can be made smaller");
  if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, good.table_fd, 0) != MAP_FAILED || errno != EPERM) FAIL("a sealed table can be mapped writable");
  if (pwrite(good.table_fd, "x", 1, 0) >= 0 || errno != EPERM) FAIL("a sealed table can be written");
  if (!fcntl(good.table_fd, F_ADD_SEALS, F_SEAL_WRITE) || errno != EPERM) FAIL("a sealed table takes another seal");
  replica_free(&good);
}
