// Package syncbuffer holds a buffer that one goroutine can read while another writes
// it, such as the log of a process under test.
package syncbuffer

import (
	"bytes"
	"sync"
)

// Buffer is a buffer for concurrent use. The zero Buffer is empty.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
