// Package revocation is the model of a revocation: the statement that some
// tokens are not trusted any more, before they expire. It keeps no state and
// uses no cache, no disk and no network.
//
// # The model
//
// A [Revocation] names an issuer, a [Target] (claim equalities, a signing key,
// one token, or everything), the tokens that it reaches (those issued before an
// instant, or all of them) and the instant at which it ends. Only the control
// endpoint holds revocations. A replica holds an [Entry] of each: the target's
// 128-bit [Digest] under its [Shape], two instants, and the [ID], which is the
// place of the revocation in the log. So a denial can name the revocation, and
// a replica does not learn the subject of the revocation.
//
// # Matching
//
// [Token.Digests] yields the digests under which a token can be revoked. A
// replica calls it once for each shape in use for the token's issuer, so the
// cost of a look-up does not depend on the number of revocations.
//
// # Trust
//
// Callers pass a [Token] whose signature they have verified. Its claims are
// the issuer's choice: arrays can be long, numbers can be odd. Nothing keeps a
// reference to them.
package revocation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Revocation is one accepted revocation, as the control endpoint keeps it.
// Values of this type are canonical: made by [Request.Accept] or read back
// from the log, never changed.
type Revocation struct {
	ID        ID
	Issuer    string // the iss of its tokens, byte for byte
	Target    Target
	Block     bool      // denies tokens of any iat; IssuedBefore is zero
	Before    Micros    // tokens with an earlier iat, or none, are denied; 0: tokens of any iat are
	ExpiresAt Micros    // the revocation ends then
	CreatedAt time.Time // UTC
	CreatedBy string    // name of the credential
	Reason    string
}

// Entry returns the entry that a replica holds of r.
func (r *Revocation) Entry() Entry {
	shape := r.Target.Shape(r.Issuer)
	return Entry{Shape: shape, Digest: r.Target.digest(shape), Before: r.Before, ExpiresAt: r.ExpiresAt, ID: r.ID}
}

// Micros is an instant in microseconds since the Unix epoch: exact for every
// iat that a token can carry (0 to 2^40 seconds), in eight bytes.
type Micros int64

// MicrosOf returns t, rounded up to the next microsecond.
func MicrosOf(t time.Time) Micros {
	return Micros(t.Add(time.Microsecond - 1).UnixMicro())
}

// Time returns m as a UTC time.
func (m Micros) Time() time.Time { return time.UnixMicro(int64(m)).UTC() }

// ID names a revocation by its place in the log: its revision, and its index
// among the revocations of that revision. The zero ID names none.
type ID struct {
	Revision uint64
	Index    uint32
}

// String returns the form that people see: "r17.0".
func (id ID) String() string { return fmt.Sprintf("r%d.%d", id.Revision, id.Index) }

// ParseID returns the ID that String writes as s. It accepts no other form.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, "r")
	rev, idx, ok2 := strings.Cut(rest, ".")
	r, err := strconv.ParseUint(rev, 10, 64)
	i, err2 := strconv.ParseUint(idx, 10, 32)
	id := ID{r, uint32(i)}
	if !ok || !ok2 || err != nil || err2 != nil || r == 0 || id.String() != s {
		return ID{}, fmt.Errorf("%q is not the ID of a revocation; an ID looks like r17.0", s)
	}
	return id, nil
}

// Entry is a revocation as a replica holds it.
type Entry struct {
	Shape     Shape
	Digest    Digest
	Before    Micros // 0: tokens of any iat are denied
	ExpiresAt Micros
	ID        ID
}

// Change is one revision of the log. Applying a change twice is the same as
// applying it once.
type Change struct {
	Revision uint64
	Added    []Entry
	Removed  []Entry // restored; Digest, Shape, ExpiresAt and ID are as they were added
	Mark     uint64  // of the revision's record in the log; 0: not known
}
