package tokencache

import (
	"crypto/rand"
	"encoding/binary"
	"unsafe"

	"github.com/dchest/siphash"
)

// Key stands for a token.
type Key struct{ hi, lo uint64 }

// Secret makes keys of tokens. A token has another key under each secret.
type Secret struct{ k0, k1 uint64 }

// Words returns the halves of a key, in the order of SipHash.
func (k Key) Words() [2]uint64 { return [2]uint64{k.lo, k.hi} }

// KeyOf returns the key with these halves.
func KeyOf(words [2]uint64) Key { return Key{lo: words[0], hi: words[1]} }

// Words returns the halves of a secret. They tell the keys of tokens.
func (s Secret) Words() [2]uint64 { return [2]uint64{s.k0, s.k1} }

// NewSecret returns a random secret.
func NewSecret() Secret {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return Secret{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// Key returns the key of a token.
func (s Secret) Key(token string) Key {
	// The hash reads the bytes and keeps no reference to them.
	lo, hi := siphash.Hash128(s.k0, s.k1, unsafe.Slice(unsafe.StringData(token), len(token))) //nolint:gosec // see above
	return Key{hi, lo}
}
