package known

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Use is a request that an Envoy answered by itself.
type Use struct {
	At     time.Time
	Policy string
	Key    Key       // of the token; the zero Key if the entry has changed since
	ID     [2]uint64 // of the decision: 128 bits
	Source netip.Addr
}

// Envoy is the state of the connection of an Envoy.
type Envoy struct {
	Hits, Drops uint64 // requests answered; of these, requests of which nothing else is known
	Unwatched   uint64 // open streams that nobody can end
	Misses      [missKinds]uint64
}

// ring is the memory of one Envoy. The Envoy may write anything at any time, so each
// number is bounded before it is used.
type ring struct {
	memory         memory
	workers, cells int
	usedAt, size   int
	heads          []uint64 // cells read of each worker; not in the memory, so that no Envoy changes it
	turn           int      // the worker to read first
}

const ringCellsOfWorker = 8192

func newRing(workers, entries int) (*ring, error) {
	if workers < 1 || workers > maxWorkers {
		return nil, fmt.Errorf("the Envoy has %d workers; from 1 to %d are possible", workers, maxWorkers)
	}
	r := &ring{workers: workers, cells: ringCellsOfWorker, heads: make([]uint64, workers)}
	r.usedAt = page + workers*(workerRingSize+r.cells*cellSize)
	r.size = sizeOfRing(workers, entries)
	var err error
	if r.memory, err = newMemory("rescind-ring", r.size, sealsOfRing); err != nil {
		return nil, err
	}
	for at, v := range map[int]int{
		ringMagicAt: ringMagic, ringLayout: layout, ringSize: r.size, ringWorkers: workers,
		ringCells: r.cells, ringUsedAt: r.usedAt, ringEntries: entries,
	} {
		r.memory.store(at, uint64(v))
	}
	return r, nil
}

func (r *ring) workerAt(worker int) int { return page + worker*(workerRingSize+r.cells*cellSize) }

func (r *ring) takeUsed(number int) bool {
	used := &r.memory.bytes[r.usedAt+number]
	if *used == 0 {
		return false
	}
	*used = 0 // a use that the Envoy notes at this moment is lost, which evicts a little sooner
	return true
}

// drain appends requests that came since the last call to uses, as many as have room. The
// caller holds the lock of the table.
func (r *ring) drain(t *Table, uses []Use) []Use {
	for i := range r.workers {
		worker := (r.turn + i) % r.workers
		at := r.workerAt(worker)
		tail := r.memory.load(at + workerTail)
		if tail-r.heads[worker] > uint64(r.cells) {
			r.heads[worker] = tail - uint64(r.cells) // the Envoy lies, or has overwritten cells
		}
		for ; r.heads[worker] != tail && len(uses) < cap(uses); r.heads[worker]++ {
			cell := at + workerRingSize + int(r.heads[worker]%uint64(r.cells))*cellSize
			uses = append(uses, t.useIn(r.memory.bytes[cell:cell+cellSize]))
		}
		r.memory.store(at+workerHead, r.heads[worker])
	}
	r.turn = (r.turn + 1) % r.workers // so that a worker with many requests leaves time for the others
	return uses
}

// useIn reads a cell.
func (t *Table) useIn(cell []byte) (u Use) {
	var c [cellSize]byte
	copy(c[:], cell)
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(c[at:]) }
	u.At = time.Unix(0, int64(word(0)))
	if number, sequence := word(8), word(16); number < uint64(t.entries) && t.memory.load(t.entryAt(int(number))) == sequence {
		u.Key = t.keyAt(int(number))
	}
	if policy := binary.NativeEndian.Uint32(c[24:]); int(policy) < len(t.policies) {
		u.Policy = t.policies[policy].Name
	}
	u.ID = [2]uint64{word(32), word(40)}
	switch ip := [16]byte(c[48:]); c[29] {
	case 4:
		u.Source = netip.AddrFrom4([4]byte(ip[12:]))
	case 6:
		u.Source = netip.AddrFrom16(ip)
	}
	return u
}

func (r *ring) state() (e Envoy) {
	for worker := range r.workers {
		at := r.workerAt(worker)
		e.Hits += r.memory.load(at + workerHits)
		e.Drops += r.memory.load(at + workerDrops)
		e.Unwatched += r.memory.load(at + workerUnwatched)
		for i := range e.Misses {
			e.Misses[i] += r.memory.load(at + workerMisses + 8*i)
		}
	}
	return e
}
