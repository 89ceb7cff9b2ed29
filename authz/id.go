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

// GatewayID is the random ID of a decision that a gateway made: 128 bits that become a
// text only if somebody needs it.
type GatewayID [2]uint64

// String returns the ID as the gateway writes it.
func (id GatewayID) String() string {
	var text [idSize]byte
	low, high := id[0], id[1]
	for i := range text {
		text[i] = idLetter[low&31]
		low, high = low>>5|high<<59, high>>5
	}
	return string(text[:])
}

// IDText returns the ID of d as a text.
func (d *Decision) IDText() string {
	if d.ByGateway && d.ID == "" {
		return d.GatewayID.String()
	}
	return d.ID
}

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
