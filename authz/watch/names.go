package watch

import (
	"crypto/sha256"
	"encoding/binary"

	"rescind/authz"
)

// Kinds of names. The same text has another hash for each kind.
const (
	ofIssuer byte = 1 + iota
	ofToken
	ofSubject
	ofSession
	ofClient
)

// hashOf returns the first 64 bits of a SHA-256, and never 0.
func hashOf(kind byte, of uint64, text string) uint64 {
	var buffer [512]byte
	b := append(buffer[:0], kind)
	b = binary.BigEndian.AppendUint64(b, of)
	sum := sha256.Sum256(append(b, text...))
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}

// spread returns a uniformly distributed hash for one that lacks bits or is a
// combination of several. It is the finalizer of MurmurHash3.
func spread(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// brief is 48 bits of a hash. Among a million tokens, a name collides with
// another with a probability of 1 in 250 million. The zero value is no name.
type brief [6]byte

func briefOf(h uint64) (b brief) {
	var all [8]byte
	binary.BigEndian.PutUint64(all[:], h)
	copy(b[:], all[:6])
	return b
}

func (b brief) hash() uint64 {
	var all [8]byte
	copy(all[:6], b[:])
	return spread(binary.BigEndian.Uint64(all[:]))
}

// issuer is an issuer of the configuration.
type issuer struct {
	name      string
	hash      uint64
	lifetimes usual
	carried   carried
}

// of returns the hash of a name within i, or 0 for an empty name.
func (i *issuer) of(kind byte, text string) uint64 {
	if text == "" {
		return 0
	}
	return hashOf(kind, i.hash, text)
}

// identity returns the identity of a token: the hash of its jti, or else of its
// header.payload.
func (i *issuer) identity(e *event) uint64 {
	if e.tokenID == "" {
		return max(e.hash, 1)
	}
	return i.of(ofToken, e.tokenID)
}

// origin is an issuer, client and key that many tokens have in common.
type origin struct {
	source
	tokens int // with this origin
}

type source struct {
	issuer  *issuer
	clients authz.Clients
	keyID   string
}

// route is a policy and an outcome.
type route struct {
	policy string
	reason authz.Reason
}

// Sizes of the numbers of origins and routes.
const (
	originBits = 12
	routeBits  = 64 - networkBits
)

// names numbers the names that many tokens have in common. The number of an
// origin is free again when its last token is forgotten. When the numbers run
// out, a token gets its issuer's unnamed origin.
type names struct {
	issuers map[string]*issuer
	origins []origin
	byName  map[source]uint16
	free    []uint16
	unnamed map[*issuer]uint16
	routes  []route
	byRoute map[route]uint16
}

func newNames() *names {
	return &names{
		issuers: map[string]*issuer{}, byName: map[source]uint16{}, unnamed: map[*issuer]uint16{},
		routes: []route{{}}, byRoute: map[route]uint16{},
	}
}

// issuer returns the issuer of a name. The caller passes configured issuers
// alone.
func (n *names) issuer(name string) *issuer {
	i := n.issuers[name]
	if i == nil {
		i = &issuer{name: name, hash: hashOf(ofIssuer, 0, name)}
		n.issuers[name] = i
		if o, ok := n.number(); ok {
			n.origins[o] = origin{source: source{issuer: i}}
			n.unnamed[i] = o
		}
	}
	return i
}

// number returns a free number of an origin. It is not ok if there is none.
func (n *names) number() (uint16, bool) {
	if last := len(n.free) - 1; last >= 0 {
		o := n.free[last]
		n.free = n.free[:last]
		return o, true
	}
	if len(n.origins) >= 1<<originBits {
		return 0, false
	}
	n.origins = append(n.origins, origin{})
	return uint16(len(n.origins) - 1), true
}

// join returns the number of a token's origin, and counts the token.
func (n *names) join(s source) uint16 {
	o, ok := n.byName[s]
	if !ok {
		if o, ok = n.number(); ok {
			n.byName[s] = o
			n.origins[o] = origin{source: s}
		} else {
			o = n.unnamed[s.issuer]
		}
	}
	n.origins[o].tokens++
	return o
}

// leave notes that a token of this origin was forgotten.
func (n *names) leave(o uint16) {
	at := &n.origins[o]
	if at.tokens--; at.tokens == 0 && n.unnamed[at.issuer] != o {
		delete(n.byName, at.source)
		*at = origin{}
		n.free = append(n.free, o)
	}
}

// short reports whether there are tokens of an issuer, or of any if i is nil,
// whose client and key are not known.
func (n *names) short(i *issuer) bool {
	for of, o := range n.unnamed {
		if (i == nil || of == i) && n.origins[o].tokens > 0 {
			return true
		}
	}
	return false
}

// route returns the number of a policy and an outcome, or 0 if the numbers have
// run out.
func (n *names) route(policy string, reason authz.Reason) uint16 {
	r := route{policy, reason}
	number, ok := n.byRoute[r]
	if !ok && len(n.routes) < 1<<routeBits {
		number = uint16(len(n.routes))
		n.routes = append(n.routes, r)
		n.byRoute[r] = number
	}
	return number
}
