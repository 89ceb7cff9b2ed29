package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// memoryLog is a log in memory: a small real one, with the failures that the
// durable one can have. It outlives the ledgers that run on it.
type memoryLog struct {
	mu      sync.Mutex
	bodies  [][]byte // revision 1 first; nil = kept the books
	notes   [][]byte
	covered uint64
	grown   chan struct{}

	late       [][]byte // that other nodes have appended and this one will read
	agreed     time.Time
	failHead   error
	failAppend func() error // nil = does not fail
	failNote   func() error
	limit      int
}

func newMemoryLog() *memoryLog {
	return &memoryLog{bodies: [][]byte{nil}, grown: make(chan struct{}), limit: 32 << 20}
}

func (m *memoryLog) ID() string         { return "0123456789abcdef0123456789abcdef" }
func (m *memoryLog) Replaces() []string { return nil }
func (m *memoryLog) Writer() string     { return "test" }
func (m *memoryLog) Err() error         { return nil }
func (m *memoryLog) MaxBody() int       { return m.limit }

func (m *memoryLog) Agreed() (time.Time, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agreed, uint64(len(m.bodies) + len(m.late))
}

func (m *memoryLog) Head(context.Context, uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.bodies) + len(m.late)), m.failHead
}

func (m *memoryLog) Append(_ context.Context, after uint64, _ time.Time, body []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failAppend != nil {
		if err := m.failAppend(); err != nil {
			return 0, err
		}
	}
	if after != uint64(len(m.bodies)) {
		return 0, nil
	}
	m.add(body)
	return after + 1, nil
}

// add appends without asking anybody, as another node does.
func (m *memoryLog) add(body []byte) {
	m.bodies = append(m.bodies, slices.Clone(body))
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *memoryLog) Read(ctx context.Context, after uint64, deliver func(uint64, []byte) error, caughtUp func()) error {
	head := uint64(0)
	for {
		m.mu.Lock()
		todo, grown := m.bodies[after:], m.grown
		if head == 0 {
			head = uint64(len(m.bodies))
		}
		m.mu.Unlock()
		for _, b := range todo {
			after++
			if err := deliver(after, b); err != nil {
				return err
			}
			if after == head {
				caughtUp()
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memoryLog) Note(_ context.Context, covers uint64, body []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failNote != nil {
		if err := m.failNote(); err != nil {
			return 0, err
		}
	}
	m.notes = append(m.notes, slices.Clone(body))
	m.covered = max(m.covered, covers)
	return uint64(len(m.notes)), nil
}

func (m *memoryLog) Notes(_ context.Context, before uint64, yield func(uint64, []byte) bool) error {
	m.mu.Lock()
	notes := slices.Clone(m.notes)
	m.mu.Unlock()
	n := uint64(len(notes)) + 1
	if before > 0 {
		n = min(n, before)
	}
	for n--; n > 0; n-- {
		if !yield(n, notes[n-1]) {
			return nil
		}
	}
	return nil
}

func (m *memoryLog) Noted(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.covered, nil
}

var errDisk = errors.New("the disk is full")
