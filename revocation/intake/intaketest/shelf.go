// Package intaketest has the parts of tests of intakes.
package intaketest

import (
	"context"
	"sync"

	"rescind/revocation/intake"
)

// Shelf is an [intake.Shelf] in memory. The zero value is empty.
type Shelf struct {
	mu   sync.Mutex
	docs map[string]document
}

type document struct {
	text    []byte
	version uint64
}

// Load implements [intake.Shelf].
func (s *Shelf) Load(_ context.Context, name string) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.docs[name]
	return d.text, d.version, nil
}

// Save implements [intake.Shelf].
func (s *Shelf) Save(_ context.Context, name string, text []byte, version uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs[name].version != version {
		return 0, intake.ErrChanged
	}
	if s.docs == nil {
		s.docs = map[string]document{}
	}
	s.docs[name] = document{text, version + 1}
	return version + 1, nil
}
