package tokencache

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

var (
	start  = time.Unix(1_800_000_000, 0)
	secret = NewSecret()
	later  = start.Add(time.Hour)
)

const entrySize = 1000 // of the tests, overhead included

// add adds a token whose entry has entrySize bytes.
func add(c *Cache[string], token string, o Owner) bool {
	return c.Add(secret.Key(token), token, entrySize-overhead, o, start, later)
}

func has(c *Cache[string], token string) bool {
	v, ok := c.Find(secret.Key(token))
	return ok && v == token
}

// The reference vectors of SipHash-2-4 with 128 bits: the key is 0, 1, … 15, and the
// message 0, 1, … of this length.
func TestKeyIsSipHash(t *testing.T) {
	s := Secret{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	message := make([]byte, 64)
	for i := range message {
		message[i] = byte(i)
	}
	for length, want := range map[int]Key{
		0: {0x930255c71472f66d, 0xe6a825ba047f81a3},
		1: {0x45fc229b11597634, 0x44af996bd8c187da},
	} {
		if got := s.Key(string(message[:length])); got != want {
			t.Errorf("message of %d bytes: got key %x, want %x", length, got, want)
		}
	}
}

// A token has another key under each secret, and another one for each of its bytes.
func TestKeysDiffer(t *testing.T) {
	token := "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
	keys := map[Key]string{secret.Key(token): "the token", NewSecret().Key(token): "the token under another secret"}
	for i := range token {
		keys[secret.Key(token[:i]+"!"+token[i+1:])] = fmt.Sprint("the token with another byte ", i)
		keys[secret.Key(token[:i])] = fmt.Sprint("the first bytes of the token: ", i)
	}
	if want := 2*len(token) + 2; len(keys) != want {
		t.Errorf("got %d different keys, want %d", len(keys), want)
	}
}

// The entries never have more bytes than the cache has room for, and the cache
// returns a value only under the key that it was added with last.
func TestBoundsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := rapid.SampledFrom([]int{20_000, leastShard, 3 * leastShard}).Draw(t, "room")
		c := New[int](room, NewCounts())
		added, sizes := map[Key]int{}, map[Key]int{}
		now := start
		for i := range rapid.IntRange(1, 400).Draw(t, "steps") {
			token := fmt.Sprint("token-", rapid.IntRange(0, 300).Draw(t, "token"))
			key, o := secret.Key(token), Owner{token[:7], token}
			if rapid.Bool().Draw(t, "find") {
				if got, ok := c.Find(key); ok && got != added[key] {
					t.Fatalf("%s: got value %d, want %d, which was added last", token, got, added[key])
				}
				continue
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond)
			size := rapid.IntRange(0, room/2).Draw(t, "size")
			if c.Add(key, i, size, o, now, now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "life"))) {
				added[key], sizes[key] = i, size+overhead
			}
			bytes, entries := 0, 0
			for k := range added {
				if e, ok := c.index.Load(k); ok {
					bytes, entries = bytes+sizes[k], entries+1
					if e.value != added[k] || e.size != sizes[k] {
						t.Fatalf("got value %d of %d bytes, want %d of %d", e.value, e.size, added[k], sizes[k])
					}
				}
			}
			if bytes > room || c.Bytes() != bytes || c.Entries() != entries {
				t.Fatalf("%d entries of %d bytes, which count as %d of %d; want the same, and at most %d bytes", entries, bytes, c.Entries(), c.Bytes(), room)
			}
		}
	})
}

// A subject with a hundred thousand tokens leaves at least three quarters of the
// tokens of others, which have all been used once.
func TestOneSubjectCannotFlushOthers(t *testing.T) {
	c := New[string](64*leastShard, NewCounts())
	honest := fill(c, "idp", 8000)
	for i := range 100_000 {
		add(c, fmt.Sprint("hostile-", i), Owner{"idp", "mallory"})
	}
	if left := count(c, honest); left < len(honest)*3/4 {
		t.Errorf("%d of %d tokens of others are left, want at least three quarters", left, len(honest))
	}
}

// An issuer with a hundred thousand tokens of as many subjects, all of them in use,
// leaves the tokens of another issuer that needs less than half of the cache.
func TestOneIssuerCannotFlushAnother(t *testing.T) {
	c := New[string](64*leastShard, NewCounts())
	honest := fill(c, "idp", 4000)
	for i := range 100_000 {
		token := fmt.Sprint("hostile-", i)
		add(c, token, Owner{"evil", token})
		has(c, token)
	}
	if left := count(c, honest); left < len(honest)*99/100 {
		t.Errorf("%d of %d tokens of the other issuer are left, want 99 of 100", left, len(honest))
	}
}

// Tokens that are used now and then outlast any number of tokens that are used once.
func TestUsedTokensOutlastOthers(t *testing.T) {
	counts := NewCounts()
	c := New[string](64*leastShard, counts)
	honest := fill(c, "idp", 4000)
	for i := range 60_000 {
		token := fmt.Sprint("once-", i)
		add(c, token, Owner{"idp", token})
		has(c, honest[i%len(honest)])
	}
	if left := count(c, honest); left < len(honest)*99/100 {
		t.Errorf("%d of %d used tokens are left, want 99 of 100", left, len(honest))
	}
	if got, want := counts.Evictions.Value(), int64(64_000-c.Entries()); got < want*99/100 || got > want {
		t.Errorf("%d evictions were counted, want about %d", got, want)
	}
}

// An entry that was used three times is spared three times.
func TestUsesCount(t *testing.T) {
	c, o := New[string](20*entrySize, NewCounts()), Owner{"idp", "alice"}
	for i := range 20 {
		add(c, fmt.Sprint("first-", i), o)
	}
	for range 3 {
		has(c, "first-0")
	}
	for i := range 50 {
		add(c, fmt.Sprint("second-", i), o)
	}
	if !has(c, "first-0") {
		t.Error("after two and a half rounds the token that was used three times is gone, want it there")
	}
}

// Additions remove entries that have ended, so an idle cache does not stay full.
func TestEndedEntriesMakeRoom(t *testing.T) {
	counts := NewCounts()
	c := New[string](leastShard, counts)
	for i := range 200 {
		add(c, fmt.Sprint("old-", i), Owner{"idp", ""})
	}
	for i := range 110 {
		c.Add(secret.Key(fmt.Sprint("new-", i)), "", entrySize-overhead, Owner{"idp", ""}, later, later.Add(time.Hour))
	}
	if n := c.Entries(); n != 110 || counts.Evictions.Value() != 0 {
		t.Errorf("%d entries are left and %d were evicted, want 110 new ones and no eviction", n, counts.Evictions.Value())
	}
}

// An entry that would take much of a shard is not taken.
func TestLargeEntriesAreNotTaken(t *testing.T) {
	c := New[string](leastShard, NewCounts())
	for size, want := range map[int]bool{leastShard / 8: false, leastShard/8 - overhead: true} {
		if got := c.Add(secret.Key("x"), "x", size, Owner{}, start, later); got != want {
			t.Errorf("a value of %d bytes in a cache of %d was taken: %v, want %v", size, leastShard, got, want)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	c := New[string](leastShard, NewCounts())
	add(c, "token", Owner{"idp", "alice"})
	if n := testing.AllocsPerRun(100, func() { has(c, "token") }); n != 0 {
		t.Errorf("a look-up takes %v allocations, want 0", n)
	}
}

// The second request waits for the first one, and for no longer than Patience if that
// does not end. Flights of other tokens do not matter.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string](leastShard, NewCounts())
		began := time.Now()
		first, other := c.Begin(secret.Key("a")), c.Begin(secret.Key("b"))
		if first == nil || other == nil {
			t.Fatal("the first request of each of two tokens has no flight, want one each")
		}
		if f := c.Begin(secret.Key("a")); f != nil || time.Since(began) != Patience {
			t.Errorf("a second request, while the first does not end: flight %v after %v, want none after %v", f, time.Since(began), Patience)
		}
		waited := make(chan time.Duration)
		go func() {
			began := time.Now()
			f := c.Begin(secret.Key("a"))
			f.Land()
			waited <- time.Since(began)
		}()
		time.Sleep(time.Millisecond)
		first.Land()
		if took := <-waited; took != time.Millisecond {
			t.Errorf("a third request waited for %v, want 1ms, until the first one ended", took)
		}
		if f := c.Begin(secret.Key("a")); f == nil {
			t.Error("after the first request ended: no flight, want one")
		} else {
			f.Land()
		}
		other.Land()
		if n := len(c.flights.of); n != 0 {
			t.Errorf("%d flights are left, want none", n)
		}
	})
}

// fill adds n tokens of as many subjects, and uses each once.
func fill(c *Cache[string], issuer string, n int) (tokens []string) {
	for i := range n {
		token := fmt.Sprint("honest-", i)
		add(c, token, Owner{issuer, token})
		has(c, token)
		tokens = append(tokens, token)
	}
	return tokens
}

func count(c *Cache[string], tokens []string) (n int) {
	for _, token := range tokens {
		if _, ok := c.index.Load(secret.Key(token)); ok {
			n++
		}
	}
	return n
}

// The memory of a cache through which many tokens went is within its bounds, and the
// memory of a cache that nobody uses any more is free. A cache that is full has live
// entries of the size that it was told, so a quarter more is the collector's margin.
func TestMemoryIsBoundedAndGivenBack(t *testing.T) {
	const room, value, tokens = 8 << 20, 640, 100_000
	before := heap()
	c := New[*[value]byte](room, NewCounts())
	for i := range tokens {
		token := fmt.Sprint("token-", i)
		c.Add(secret.Key(token), new([value]byte), value, Owner{"idp", token}, start, later)
	}
	if c.Entries() == tokens || c.Bytes() > room || c.Bytes() < room*3/4 {
		t.Fatalf("%d entries of %d bytes are there after %d tokens, want a full cache of %d bytes", c.Entries(), c.Bytes(), tokens, room)
	}
	if grown := heap() - before; grown > room*5/4 {
		t.Errorf("the cache has %d bytes of memory, want at most a quarter more than %d", grown, room)
	}
	runtime.KeepAlive(c)
	c = nil
	if left := heap() - before; left > 1<<20 {
		t.Errorf("%d bytes are left of a cache that nobody uses, want less than a MiB", left)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC() // pools are emptied by the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
