package known

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

var start = time.Unix(1_800_000_000, 0)

func newTestTable(t testing.TB, entries int) *Table {
	t.Helper()
	table, err := NewTable(Options{
		Entries: entries, Prefix: "x-jwt-", Names: []string{"x-jwt-issuer", "x-jwt-subject"},
		Policies: []Policy{{"default", [2]uint64{1, 2}}, {"reports", [2]uint64{3, 4}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// tokenOf returns a token whose key, digests and subject follow from its number.
func tokenOf(t *Table, number int) *Token {
	n := uint64(number)
	return &Token{
		Policy: "default", Key: Key{n * 0x9e3779b97f4a7c15, n*0xc2b2ae3d27d4eb4f + 1}, Mark: t.Mark(), Ends: start.Add(time.Hour),
		Digests: []uint64{n, 1000 + n%7},
		Set:     []Header{{"x-jwt-subject", fmt.Sprint("user-", number)}}, Subject: fmt.Sprint("user-", number),
	}
}

// read returns the answer of a key as the module reads it, or nil.
func read(t *Table, key Key, now time.Time) []byte {
	number := t.find(key)
	if number < 0 {
		return nil
	}
	at := t.entryAt(number)
	if t.memory.load(at)&1 == 1 || t.memory.load(at+24) != t.memory.load(headEpoch) || t.memory.load(at+32) <= uint64(now.Unix()) {
		return nil
	}
	answer := make([]byte, 0, maxAnswer)
	size := int(uint32(t.memory.load(at + 40)))
	for i := 0; i < size; i += 8 {
		answer = binary.NativeEndian.AppendUint64(answer, t.memory.load(at+entryHead+i))
	}
	return answer[:size]
}

// A token is found only if it was admitted after the last change that may affect it,
// and then with its own answer.
func TestTableAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, err := NewTable(Options{Entries: 40, Prefix: "x-", Names: []string{"x-jwt-issuer", "x-jwt-subject"}, Policies: []Policy{{Name: "default"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		admitted := map[int]bool{}
		now := start
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Second)
			number := rapid.IntRange(1, 80).Draw(t, "token")
			switch rapid.SampledFrom([]string{"admit", "admit", "admit", "late", "revoke", "revoke all of a kind", "void", "read"}).Draw(t, "step") {
			case "admit":
				if table.Admit(tokenOf(table, number), now) {
					admitted[number] = true
				}
			case "late":
				token := tokenOf(table, number)
				table.Revoke(slices.Values([]uint64{5000}), 1)
				if table.Admit(token, now) {
					t.Fatalf("token %d was decided about before a change and is admitted after it", number)
				}
			case "revoke":
				table.Revoke(slices.Values([]uint64{uint64(number)}), 1)
				delete(admitted, number)
			case "revoke all of a kind":
				table.Revoke(slices.Values([]uint64{1000 + uint64(number)%7}), 1)
				for other := range admitted {
					if other%7 == number%7 {
						delete(admitted, other)
					}
				}
			case "void":
				table.Void()
				clear(admitted)
			}
			for other := range 81 {
				answer := read(table, tokenOf(table, other).Key, now)
				if answer != nil && !admitted[other] {
					t.Fatalf("token %d is known, and must not be", other)
				}
				if answer != nil && !strings.Contains(string(answer), fmt.Sprint("user-", other)) {
					t.Fatalf("token %d: got the answer %q, want its own", other, answer)
				}
			}
			if table.Len() > 40 {
				t.Fatalf("the table has %d tokens, and room for 40", table.Len())
			}
		}
	})
}

func TestAdmission(t *testing.T) {
	table := newTestTable(t, 100)
	defer table.Close()
	for name, c := range map[string]struct {
		change func(*Token)
		want   bool
	}{
		"a good token":           {func(*Token) {}, true},
		"without digests":        {func(o *Token) { o.Digests = nil }, true},
		"an unknown policy":      {func(o *Token) { o.Policy = "other" }, false},
		"ended":                  {func(o *Token) { o.Ends = start }, false},
		"an unknown header":      {func(o *Token) { o.Set = []Header{{"x-other", "a"}} }, false},
		"a byte that is no text": {func(o *Token) { o.Set[0].Value = "a\x00b" }, false},
		"a line":                 {func(o *Token) { o.Set[0].Value = "a\r\nb" }, false},
		"not ASCII":              {func(o *Token) { o.Set[0].Value = "é" }, false},
		"a subject with a line":  {func(o *Token) { o.Subject = "a\nb" }, false},
		"a value without room":   {func(o *Token) { o.Set[0].Value = strings.Repeat("a", 1000) }, false},
		"too many digests":       {func(o *Token) { o.Digests = make([]uint64, 100*linksOfEntry+1) }, false},
	} {
		token := tokenOf(table, 1)
		c.change(token)
		if got := table.Admit(token, start); got != c.want || (read(table, token.Key, start) != nil) != c.want {
			t.Errorf("%s: got admitted %v, want %v", name, got, c.want)
		}
		table.Void()
	}
	if got := table.counts.Unfit.Load(); got != 6 {
		t.Errorf("tokens whose answer has no place in an entry: got %d, want 6", got)
	}
	token := tokenOf(table, 2)
	table.Admit(token, start)
	if read(table, token.Key, token.Ends) != nil {
		t.Error("a token is known at its end")
	}
}

// The headers of a token have the room that the options say. The last case shows that a
// reader of Envoy's side finds all of a long answer.
func TestRoomForHeaders(t *testing.T) {
	for _, c := range []struct {
		answer, header int
		want           bool
	}{{64, 40, true}, {64, 61, false}, {0, 200, true}, {0, 300, false}, {512, 300, true}, {960, 940, true}, {960, 1000, false}} {
		table, err := NewTable(Options{Entries: 1024, Answer: c.answer, Prefix: "x-jwt-", Names: []string{"x-jwt-subject"}, Policies: []Policy{{"default", [2]uint64{1, 2}}}})
		if err != nil {
			t.Fatal(err)
		}
		token := tokenOf(table, 1)
		token.Set = []Header{{"x-jwt-subject", strings.Repeat("a", c.header)}}
		token.Subject = token.Set[0].Value
		got := table.Admit(token, start)
		if answer := read(table, token.Key, start); got != c.want || c.want && !strings.Contains(string(answer), token.Subject) {
			t.Errorf("a header of %d bytes with room for %d: got admitted %v and an answer of %d bytes, want %v", c.header, c.answer, got, len(answer), c.want)
		}
		table.Close()
	}
	for _, answer := range []int{-1, maxAnswer + 1} {
		if _, err := NewTable(Options{Entries: 1024, Answer: answer, Prefix: "x-jwt-"}); err == nil {
			t.Errorf("room for %d bytes: got a table, want an error", answer)
		}
	}
}

// Tokens that are used are spared, and admissions are bounded, so that many new
// tokens do not drive out the one in use.
func TestEvictionSparesTokensInUse(t *testing.T) {
	table := newTestTable(t, 1000)
	defer table.Close()
	r, err := newRing(1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer r.memory.free()
	table.rings = append(table.rings, r)
	now := start
	used := tokenOf(table, 0)
	used.Key = Key{17, 18}
	table.Admit(used, now)
	for i := 1; i < 5000; i++ {
		now = now.Add(4 * time.Millisecond)
		r.memory.bytes[r.usedAt+table.find(used.Key)] = 1
		table.Admit(tokenOf(table, i), now)
		if read(table, used.Key, now) == nil {
			t.Fatalf("the token in use is evicted after %d others", i)
		}
	}
	if got := table.counts.Evicted.Load(); got == 0 {
		t.Error("nothing was evicted, so the test shows nothing")
	}
	before := table.counts.Admitted.Load()
	for i := range 5000 {
		table.Admit(tokenOf(table, 10000+i), now)
	}
	if got := table.counts.Admitted.Load() - before; got > 100 {
		t.Errorf("got %d admissions at once, want at most a tenth of the entries", got)
	}
}

// Nothing that an Envoy writes into its ring harms the replica.
func TestRingIsNotBelieved(t *testing.T) {
	table := newTestTable(t, 64)
	defer table.Close()
	rapid.Check(t, func(t *rapid.T) {
		r, err := newRing(2, 64)
		if err != nil {
			t.Fatal(err)
		}
		defer r.memory.free()
		for range 20 {
			for range 50 {
				at := rapid.IntRange(0, r.size/8-1).Draw(t, "word")
				r.memory.store(at*8, rapid.Uint64().Draw(t, "value"))
			}
			uses := r.drain(table, make([]Use, 0, 4*r.cells))
			for _, u := range uses {
				if u.Key != (Key{}) {
					t.Fatalf("got the use of key %v, and no token is known", u.Key)
				}
			}
			if len(uses) > 2*r.cells {
				t.Fatalf("got %d uses, and the ring has %d cells", len(uses), 2*r.cells)
			}
			r.state()
			r.takeUsed(63)
		}
	})
}

// All uses are read in portions, each once.
func TestRingIsReadInPortions(t *testing.T) {
	table := newTestTable(t, 64)
	defer table.Close()
	r, err := newRing(2, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer r.memory.free()
	const written = 1000 // of each worker
	for worker := range 2 {
		at := r.workerAt(worker)
		for n := range written {
			r.memory.store(at+workerRingSize+n*cellSize, uint64(worker*written+n))
		}
		r.memory.store(at+workerTail, written)
	}
	seen := map[int64]int{}
	for range 2*written/portion + 1 {
		for _, u := range r.drain(table, make([]Use, 0, portion)) {
			seen[u.At.UnixNano()]++
		}
	}
	for n := range int64(2 * written) {
		if seen[n] != 1 {
			t.Fatalf("use %d: got it %d times, want once", n, seen[n])
		}
	}
	for worker := range 2 {
		if got := r.memory.load(r.workerAt(worker) + workerHead); got != written {
			t.Errorf("worker %d sees %d cells read, want %d", worker, got, written)
		}
	}
}

func TestMemoryIsSealed(t *testing.T) {
	table := newTestTable(t, 64)
	defer table.Close()
	fd := table.memory.fd
	if err := unix.Ftruncate(fd, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncating the table: got %v, want EPERM", err)
	}
	if _, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
		t.Errorf("mapping the table writable: got %v, want EPERM", err)
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to the table: got %v, want EPERM", err)
	}
}

func TestClosedTableTakesNoCall(t *testing.T) {
	table := newTestTable(t, 64)
	token := tokenOf(table, 1)
	table.Close()
	table.Close()
	table.Void()
	table.Open(true)
	table.Beat(0)
	table.Revoke(slices.Values([]uint64{1}), 1)
	if table.Admit(token, start) {
		t.Error("a closed table admits a token")
	}
}

// The module is compiled with the layout of table.h.
func TestLayoutIsThatOfTheModule(t *testing.T) {
	program := `#include "table.h"
#include <stdio.h>
#define P(name, value) printf("%s %zu\n", name, (size_t)(value))
#define H(name, field) P(name, offsetof(table_head, field))
#define R(name, field) P(name, offsetof(ring_head, field))
#define W(name, field) P(name, offsetof(worker_ring, field))
int main(void) {
  H("headMagic", magic); H("headLayout", layout); H("headSize", size); H("headIndexAt", index_at); H("headBuckets", buckets);
  H("headEntriesAt", entries_at); H("headEntries", entries); H("headStride", stride); H("headNames", names); H("headPolicies", policies);
  H("headHide", hide_authorization); H("headBeat", beat); H("headOpen", open); H("headEpoch", epoch); H("headRevision", revision);
  H("headAudit", audit); H("headPrefix", prefix); H("headName", name); H("headPolicy", policy);
  R("ringMagicAt", magic); R("ringLayout", layout); R("ringSize", size); R("ringWorkers", workers); R("ringCells", cells);
  R("ringUsedAt", used_at); R("ringEntries", entries);
  W("workerTail", tail); W("workerHits", hits); W("workerDrops", drops); W("workerUnwatched", unwatched); W("workerHead", head); W("workerMisses", misses);
  P("tableHeadSize", sizeof(table_head)); P("workerRingSize", sizeof(worker_ring)); P("cellSize", sizeof(cell)); P("bucketSize", sizeof(bucket));
  P("policySize", sizeof(((table_head *)0)->policy[0])); P("nameSize", NAME_SIZE); P("page", PAGE); P("layout", LAYOUT); P("maxWorkers", MAX_WORKERS);
  P("entryHead", ENTRY_HEAD); P("maxStride", MAX_STRIDE); P("maxAnswer", MAX_ANSWER); P("sameValue", SAME_VALUE); P("missKinds", MISS_KINDS);
  P("MaxNames", MAX_NAMES); P("MaxPolicies", MAX_POLICIES); P("tableMagic", TABLE_MAGIC); P("ringMagic", RING_MAGIC);
  P("streamMessageSize", sizeof(stream_message)); P("messageStreamEnd", STREAM_END);
}`
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "layout.c"), filepath.Join(dir, "layout")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("cc"); err != nil && os.Getenv("CI") == "" {
		t.Skip("there is no C compiler: ", err)
	}
	if out, err := exec.CommandContext(t.Context(), "cc", "-I", "../module", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{
		"headMagic": headMagic, "headLayout": headLayout, "headSize": headSize, "headIndexAt": headIndexAt, "headBuckets": headBuckets,
		"headEntriesAt": headEntriesAt, "headEntries": headEntries, "headStride": headStride, "headNames": headNames, "headPolicies": headPolicies,
		"headHide": headHide, "headBeat": headBeat, "headOpen": headOpen, "headEpoch": headEpoch, "headRevision": headRevision,
		"headAudit": headAudit, "headPrefix": headPrefix, "headName": headName, "headPolicy": headPolicy,
		"ringMagicAt": ringMagicAt, "ringLayout": ringLayout, "ringSize": ringSize, "ringWorkers": ringWorkers, "ringCells": ringCells,
		"ringUsedAt": ringUsedAt, "ringEntries": ringEntries,
		"workerTail": workerTail, "workerHits": workerHits, "workerDrops": workerDrops, "workerUnwatched": workerUnwatched, "workerHead": workerHead, "workerMisses": workerMisses,
		"tableHeadSize": tableHeadSize, "workerRingSize": workerRingSize, "cellSize": cellSize, "bucketSize": bucketSize,
		"policySize": policySize, "nameSize": nameSize, "page": page, "layout": layout, "maxWorkers": maxWorkers,
		"entryHead": entryHead, "maxStride": maxStride, "maxAnswer": maxAnswer, "sameValue": sameValue, "missKinds": missKinds,
		"MaxNames": MaxNames, "MaxPolicies": MaxPolicies, "tableMagic": tableMagic, "ringMagic": ringMagic,
		"streamMessageSize": streamMessageSize, "messageStreamEnd": messageStreamEnd,
	}
	for line := range strings.Lines(string(out)) {
		var name string
		var got uint64
		if _, err := fmt.Sscan(line, &name, &got); err != nil {
			t.Fatal(err)
		}
		if w, ok := want[name]; !ok || w != got {
			t.Errorf("%s: the module has %d, this package %d", name, got, w)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("the module does not name %v", want)
	}
}
