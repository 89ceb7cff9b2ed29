package known

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Options of a [Table].
type Options struct {
	Entries           int // tokens that find room
	Answer            int // bytes for the headers of a token; 0: DefaultAnswer
	Policies          []Policy
	Names             []string // of the headers that the product sets, in lower case
	Prefix            string   // of the headers that the product owns
	HideAuthorization bool     // the upstream gets no Authorization header
	Audit             float64  // the share of known requests that ask the replica all the same
	Counts            *Counts  // nil: counts of its own
}

// Table is the table of one life of a replica's configuration. It is safe for
// concurrent use.
type Table struct {
	memory             memory
	entries, stride    int
	indexAt, entriesAt int
	bucketMask         uint64
	names              map[string]int
	policies           []Policy

	counts *Counts

	marks atomic.Uint64 // changes so far

	mu       sync.Mutex // held for operations in memory, and for everything below
	admitted *rate.Limiter
	epoch    uint64
	count    int
	fresh    int      // entries from here on were never used
	free     []uint32 // entries below fresh without a token
	hand     int      // the entry that eviction looks at next
	selected selectors
	rings    []*ring // of the Envoys that are connected
	closed   bool
}

// Counts count over the life of a process. Tables that follow each other share them.
type Counts struct {
	Admitted  atomic.Uint64
	Evicted   atomic.Uint64
	TakenOut  atomic.Uint64 // by revocations
	Forgotten atomic.Uint64 // because the replica had forgotten their holders
	Unfit     atomic.Uint64 // tokens that have no place, because their answer has none in an entry
	Voided    atomic.Uint64 // times at which all tokens became void
}

// NewTable returns an empty table. It is closed to Envoys until [Table.Open] opens
// it.
func NewTable(o Options) (*Table, error) {
	switch {
	case o.Entries < 1 || o.Entries > 1<<24:
		return nil, fmt.Errorf("known tokens: %d entries; it must be from 1 to %d", o.Entries, 1<<24)
	case o.Answer < 0 || o.Answer > maxAnswer:
		return nil, fmt.Errorf("known tokens: %d bytes for the headers of a token; it must be at most %d", o.Answer, maxAnswer)
	case len(o.Names) > MaxNames:
		return nil, fmt.Errorf("known tokens: %d headers are set, and the module knows at most %d", len(o.Names), MaxNames)
	case len(o.Prefix) > maxName || o.Prefix == "":
		return nil, fmt.Errorf("known tokens: the prefix of the headers %q must have 1 to %d bytes", o.Prefix, maxName)
	}
	t := &Table{
		entries: o.Entries, stride: strideOf(cmp.Or(o.Answer, DefaultAnswer)), names: map[string]int{},
		admitted: rate.NewLimiter(rate.Limit(max(o.Entries/10, 100)), max(o.Entries/10, 100)),
		selected: newSelectors(o.Entries), counts: o.Counts,
	}
	if t.counts == nil {
		t.counts = &Counts{}
	}
	n := buckets(o.Entries)
	t.bucketMask = uint64(n - 1)
	t.indexAt = tableHeadSize
	t.entriesAt = t.indexAt + n*bucketSize
	size := sizeOfTable(o.Entries, t.stride)
	var err error
	if t.memory, err = newMemory("rescind-known", size, sealsOfTable); err != nil {
		return nil, err
	}
	if err := t.writeHead(o, size); err != nil {
		t.memory.free()
		return nil, err
	}
	return t, nil
}

func (t *Table) writeHead(o Options, size int) error {
	for at, v := range map[int]int{
		headLayout: layout, headSize: size, headIndexAt: t.indexAt, headBuckets: int(t.bucketMask) + 1,
		headEntriesAt: t.entriesAt, headEntries: t.entries, headStride: t.stride, headNames: len(o.Names),
	} {
		t.memory.store(at, uint64(v))
	}
	if o.HideAuthorization {
		t.memory.store(headHide, 1)
	}
	if o.Audit > 0 {
		t.memory.store(headAudit, uint64(max(1, 1/o.Audit)))
	}
	t.memory.text(headPrefix, strings.ToLower(o.Prefix))
	for i, name := range o.Names {
		if name == "" || len(name) > maxName {
			return fmt.Errorf("known tokens: the header %q must have 1 to %d bytes", name, maxName)
		}
		t.names[name] = i
		t.memory.text(headName+i*nameSize, name)
	}
	for _, p := range o.Policies {
		if len(t.policies) == MaxPolicies || p.Name == "" || len(p.Name) > maxName {
			continue // tokens under it are never known
		}
		at := headPolicy + len(t.policies)*policySize
		t.memory.store(at, p.Secret[0])
		t.memory.store(at+8, p.Secret[1])
		t.memory.text(at+16, p.Name)
		t.policies = append(t.policies, p)
	}
	t.memory.store(headPolicies, uint64(len(t.policies)))
	t.renew()
	t.memory.store(headMagic, tableMagic)
	return nil
}

// Mark returns a number that grows with each change. The caller of [Table.Admit] reads
// it before the decision.
func (t *Table) Mark() uint64 { return t.marks.Load() }

// Admit makes a token known. It reports whether the token is known now. A token that
// was decided about before the last change is not.
func (t *Table) Admit(token *Token, now time.Time) bool {
	policy := t.policyOf(token.Policy)
	if policy < 0 {
		return false
	}
	answer := t.answer(token)
	if answer == nil {
		t.counts.Unfit.Add(1)
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || token.Mark != t.marks.Load() || !now.Before(token.Ends) || !t.admitted.AllowN(now, 1) {
		return false
	}
	number := t.find(token.Key)
	if number < 0 {
		number = t.place(now)
		if !t.insert(token.Key, number) {
			t.free = append(t.free, uint32(number))
			return false
		}
		t.count++
	} else {
		t.selected.remove(number)
	}
	if !t.selected.add(number, token.Digests) {
		t.takeOut(number)
		return false
	}
	t.write(number, token, policy, answer)
	t.counts.Admitted.Add(1)
	return true
}

func (t *Table) policyOf(name string) int {
	for i := range t.policies {
		if t.policies[i].Name == name {
			return i
		}
	}
	return -1
}

func (t *Table) entryAt(number int) int { return t.entriesAt + number*t.stride }

// write writes an entry. The caller holds mu, here and below. A reader that looks
// meanwhile sees an odd sequence, or another one at the end.
func (t *Table) write(number int, token *Token, policy int, answer []byte) {
	at := t.entryAt(number)
	sequence := t.memory.load(at) | 1
	t.memory.store(at, sequence)
	for i, v := range []uint64{token.Key[0], token.Key[1], t.epoch, uint64(token.Ends.Unix()), uint64(policy)<<32 | uint64(len(answer))} {
		t.memory.store(at+8+8*i, v)
	}
	for i := 0; i < len(answer); i += 8 {
		var word [8]byte
		copy(word[:], answer[i:])
		t.memory.store(at+entryHead+i, binary.NativeEndian.Uint64(word[:]))
	}
	t.memory.store(at, sequence+1)
}

// takeOut removes an entry. Its first store is the one after which no request finds
// the token.
func (t *Table) takeOut(number int) {
	at := t.entryAt(number)
	sequence := t.memory.load(at) | 1
	t.memory.store(at, sequence)
	key := t.keyAt(number)
	t.memory.store(at+8, 0)
	t.memory.store(at+16, 0)
	t.memory.store(at, sequence+1)
	t.remove(key, number)
	t.selected.remove(number)
	t.free = append(t.free, uint32(number))
	t.count--
}

func (t *Table) keyAt(number int) Key {
	at := t.entryAt(number)
	return Key{t.memory.load(at + 8), t.memory.load(at + 16)}
}

// place returns an entry without a token. It evicts one if it must.
func (t *Table) place(now time.Time) int {
	switch {
	case len(t.free) > 0:
	case t.fresh < t.entries:
		t.fresh++
		return t.fresh - 1
	default:
		t.evict(now)
	}
	last := len(t.free) - 1
	number := t.free[last]
	t.free = t.free[:last]
	return int(number)
}

// evict takes out the next token that has ended, is void, or was not used since the
// hand came by. All entries have a token.
func (t *Table) evict(now time.Time) {
	for turns := 0; ; turns++ {
		number := t.hand
		t.hand = (t.hand + 1) % t.entries
		at := t.entryAt(number)
		void := t.memory.load(at+24) != t.epoch || t.memory.load(at+32) <= uint64(now.Unix())
		if t.wasUsed(number) && !void && turns < t.entries {
			continue
		}
		t.takeOut(number)
		t.counts.Evicted.Add(1)
		return
	}
}

// wasUsed reports whether an Envoy has used the entry since the last call.
func (t *Table) wasUsed(number int) (used bool) {
	for _, r := range t.rings {
		used = r.takeUsed(number) || used
	}
	return used
}

// Revoke takes out every token that one of these revocations may deny. It returns
// when no request finds them any more. The caller has put the revocations in force
// and has not acknowledged them.
func (t *Table) Revoke(digests iter.Seq[uint64], revision uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks.Add(1)
	if t.closed {
		return
	}
	t.memory.store(headRevision, revision)
	for d := range digests {
		for number := range t.selected.of(d) {
			t.takeOut(number)
			t.counts.TakenOut.Add(1)
		}
	}
}

// Forget takes out a token whose holder the replica has forgotten. The next request
// with the token asks the replica, which then knows the holder again.
func (t *Table) Forget(key Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if number := t.find(key); number >= 0 {
		t.takeOut(number)
		t.counts.Forgotten.Add(1)
	}
}

// Holds returns a number that stands for the present entry of a key, or 0 if no Envoy
// finds the key.
func (t *Table) Holds(key Key, now time.Time) (entry uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0
	}
	number := t.find(key)
	if number < 0 {
		return 0
	}
	at := t.entryAt(number)
	if t.memory.load(at+24) != t.epoch || t.memory.load(at+32) <= uint64(now.Unix()) {
		return 0
	}
	return t.memory.load(at)<<24 | uint64(number)
}

// Void makes all tokens void: the keys, the issuers, the policies, or the shapes of
// revocations have changed.
func (t *Table) Void() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks.Add(1)
	if t.closed {
		return
	}
	t.renew()
	t.counts.Voided.Add(1)
}

func (t *Table) renew() {
	t.epoch++
	t.memory.store(headEpoch, t.epoch)
}

// Open lets Envoys use the table, or stops them.
func (t *Table) Open(open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	var v uint64
	if open {
		v = 1
	}
	t.memory.store(headOpen, v)
}

// Beat shows Envoys that the replica lives, at this revision. A replica must call it
// every 50 ms, and while it holds all locks that applying a revocation takes. An Envoy
// uses a table only after a beat, so it never sees a table without a revision.
func (t *Table) Beat(revision uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.memory.store(headRevision, revision)
	t.memory.store(headBeat, t.memory.load(headBeat)+1)
}

// Len returns the number of tokens in the table, void ones included.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// Close closes the table for good, and gives its memory up.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	t.memory.store(headOpen, 0)
	t.memory.store(headMagic, 0)
	t.memory.free()
}
