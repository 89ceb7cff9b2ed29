// Package ledgertest holds a log in memory for tests of the ledger and of the
// packages above it.
package ledgertest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Log is a log in memory: a small real one, with the failures that the
// durable one can have. It outlives the ledgers that run on it.
type Log struct {
	sync.Mutex                      // guards the fields below
	Batches    [][]byte             // revision 1 first; nil holds no batch
	Lines      [][]byte             // the notes of the audit, oldest first
	LineTimes  map[uint64]time.Time // by number; a note without a time is of the present
	Late       [][]byte             // appended by other nodes, not read here yet
	LastAgreed time.Time
	FailHead   error
	FailAppend func() error // nil does not fail
	FailNote   func() error
	Limit      int // of a body

	covered uint64
	grown   chan struct{}
}

func New() *Log {
	return &Log{Batches: [][]byte{nil}, grown: make(chan struct{}), Limit: 32 << 20}
}

func (m *Log) ID() string         { return "0123456789abcdef0123456789abcdef" }
func (m *Log) Replaces() []string { return nil }
func (m *Log) Writer() string     { return "test" }
func (m *Log) Err() error         { return nil }
func (m *Log) MaxBody() int       { return m.Limit }

func (m *Log) Agreed() (time.Time, uint64) {
	m.Lock()
	defer m.Unlock()
	return m.LastAgreed, uint64(len(m.Batches) + len(m.Late))
}

func (m *Log) Head(context.Context, uint64) (uint64, error) {
	m.Lock()
	defer m.Unlock()
	return uint64(len(m.Batches) + len(m.Late)), m.FailHead
}

func (m *Log) Append(_ context.Context, after uint64, _ time.Time, body []byte) (uint64, error) {
	m.Lock()
	defer m.Unlock()
	if m.FailAppend != nil {
		if err := m.FailAppend(); err != nil {
			return 0, err
		}
	}
	if after != uint64(len(m.Batches)) {
		return 0, nil
	}
	m.Add(body)
	return after + 1, nil
}

// add appends without asking anybody, as another node does.
func (m *Log) Add(body []byte) {
	m.Batches = append(m.Batches, slices.Clone(body))
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *Log) Read(ctx context.Context, after uint64, deliver func(uint64, []byte) error, caughtUp func()) error {
	head := uint64(0)
	for {
		m.Lock()
		todo, grown := m.Batches[after:], m.grown
		if head == 0 {
			head = uint64(len(m.Batches))
		}
		m.Unlock()
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

func (m *Log) Note(_ context.Context, covers uint64, body []byte) (uint64, error) {
	m.Lock()
	defer m.Unlock()
	if m.FailNote != nil {
		if err := m.FailNote(); err != nil {
			return 0, err
		}
	}
	m.Lines = append(m.Lines, slices.Clone(body))
	m.covered = max(m.covered, covers)
	return uint64(len(m.Lines)), nil
}

func (m *Log) Notes(_ context.Context, before uint64, yield func(uint64, time.Time, []byte) bool) error {
	m.Lock()
	notes, times := slices.Clone(m.Lines), maps.Clone(m.LineTimes)
	m.Unlock()
	n := uint64(len(notes)) + 1
	if before > 0 {
		n = min(n, before)
	}
	for n--; n > 0; n-- {
		at, ok := times[n]
		if !ok {
			at = time.Now()
		}
		if !yield(n, at, notes[n-1]) {
			return nil
		}
	}
	return nil
}

func (m *Log) Noted(context.Context) (uint64, error) {
	m.Lock()
	defer m.Unlock()
	return m.covered, nil
}

var ErrDisk = errors.New("the disk is full")
