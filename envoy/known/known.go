// Package known lets Envoy itself answer for tokens that this replica has verified and
// allowed. The module in envoy/module looks tokens up in a [Table] that the replica
// writes, in memory that both processes share. The module never denies: a token that
// is not in the table takes the way through ext_authz.
//
// # What an entry promises
//
// An entry says that a request with this token, on a route of this policy, is
// allowed now. It is taken out before the replica acknowledges a revocation that may
// deny the token. It is void as soon as the keys, the issuers or the policies change,
// and at the end of its time. While the replica cannot be sure of its revocations, no
// entry counts.
//
// # Order
//
// A revocation is applied to the set of revocations first, then to the table, and
// then it is acknowledged. [Table.Mark] is read before a decision and given back with
// its token. A token that was decided about before a change does not get in after
// it.
//
// # Trust
//
// The memory of the table has seals, so that no process but this one can write it or
// make it smaller. An Envoy receives it over a Unix socket, together with a ring of
// its own, to which it writes the requests that it answered. The replica believes no
// number in a ring. Each Envoy reads the claims of all tokens in the table, so one
// replica should serve one Envoy.
//
// # Ownership
//
// A table's lock is held for operations in memory. [Server] owns the connections.
package known

import (
	"errors"
	"time"
)

// Limits of the layout. envoy/module/table.h has the same ones.
const (
	MaxNames    = 32
	MaxPolicies = 64
	maxName     = 47  // bytes of the name of a header or a policy
	maxAnswer   = 960 // bytes
)

// ErrUnsupported reports a system that cannot seal memory.
var ErrUnsupported = errors.New("known tokens need Linux 5.1 or later")

// Key stands for a token. It is SipHash-2-4 with 128 bits under the secret of a
// policy.
type Key [2]uint64

// Policy is a policy under which tokens can be known.
type Policy struct {
	Name   string
	Secret [2]uint64 // makes the keys
}

// Header is a header that the upstream gets.
type Header struct{ Name, Value string }

// Token is a token that was verified and allowed.
type Token struct {
	Policy  string
	Key     Key
	Mark    uint64    // of the table, as it was before the decision
	Ends    time.Time // the entry counts before then
	Digests []uint64  // each stands for the revocations that may deny the token
	Set     []Header
	Issuer  string
	Subject string
	TokenID string
}
