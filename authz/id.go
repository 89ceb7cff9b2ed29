package authz

import (
	"crypto/rand"
	"sync"
)

// Decision IDs are made many at once, because each has to be random and none of them
// may cost a request its own memory.
const (
	idSize   = 26 // of 32 characters, so 130 random bits
	idsOnce  = 64
	idLetter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// idBlock holds IDs that nobody has used yet. One goroutine at a time has it.
type idBlock struct{ left string }

var idBlocks = sync.Pool{New: func() any { return new(idBlock) }}

// newID returns the random ID of a decision.
func newID() (id string) {
	b := idBlocks.Get().(*idBlock)
	if b.left == "" {
		var text [idSize * idsOnce]byte
		_, _ = rand.Read(text[:]) // never fails
		for i := range text {
			text[i] = idLetter[text[i]%32]
		}
		b.left = string(text[:])
	}
	id, b.left = b.left[:idSize], b.left[idSize:]
	idBlocks.Put(b)
	return id
}
