package feed

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// maxProfile bounds the profile of one replica, in bytes of its JSON.
const maxProfile = 64 << 10

// Profile is the part of a replica's configuration that the control endpoint
// needs. The replica's process owns it; [Follow] sends it to the control endpoint, again after each
// change.
type Profile struct {
	mu      sync.Mutex
	issuers []revocation.AcceptedIssuer
	changed chan struct{} // holds one token after Set
}

// NewProfile returns the profile of a replica that accepts these issuers.
func NewProfile(issuers []revocation.AcceptedIssuer) *Profile {
	return &Profile{issuers: issuers, changed: make(chan struct{}, 1)}
}

// Set replaces the issuers, as a reload of the configuration does.
func (p *Profile) Set(issuers []revocation.AcceptedIssuer) {
	p.mu.Lock()
	p.issuers = issuers
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// message returns the profile for a message, or nil if the profile exceeds
// maxProfile. Without a profile the replica counts as accepting every issuer,
// which refuses no revocation.
func (p *Profile) message() *feedpb.Profile {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := newProfile(p.issuers); err != nil {
		return nil
	}
	m := &feedpb.Profile{}
	for _, a := range p.issuers {
		i := &feedpb.AcceptedIssuer{Issuer: a.Issuer, Audiences: a.Audiences, AnyAudience: a.AnyAudience}
		for _, name := range slices.Sorted(maps.Keys(a.Claims)) {
			i.Claims = append(i.Claims, &feedpb.ClaimCondition{Name: name, Values: a.Claims[name]})
		}
		m.Issuers = append(m.Issuers, i)
	}
	return m
}

// profile is a replica's configuration as the control endpoint knows it. A profile
// never changes after newProfile. A nil profile belongs to a replica that reports
// no issuers, and counts as accepting every issuer.
type profile struct {
	key     string // the same for the same issuers
	issuers []acceptedIssuer
	sums    [][16]byte // of each issuer, to tell distinct configurations apart
	size    int        // bytes of its JSON
}

// acceptedIssuer is a [revocation.AcceptedIssuer] in messages between control
// nodes and in documents.
type acceptedIssuer struct {
	Issuer      string              `json:"issuer"`
	Audiences   []string            `json:"audiences,omitempty"`
	AnyAudience bool                `json:"any_audience,omitzero"`
	Claims      map[string][]string `json:"claims,omitempty"`
}

// newProfile returns the profile with these issuers. newProfile fails if the profile is
// larger than maxProfile.
func newProfile[I revocation.AcceptedIssuer | acceptedIssuer](issuers []I) (*profile, error) {
	p := &profile{issuers: make([]acceptedIssuer, len(issuers))}
	for i, a := range issuers {
		p.issuers[i] = acceptedIssuer(a)
	}
	slices.SortStableFunc(p.issuers, func(a, b acceptedIssuer) int { return cmp.Compare(a.Issuer, b.Issuer) })
	all := sha256.New()
	for i := range p.issuers {
		b, err := json.Marshal(&p.issuers[i], json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("the profile: %w", err)
		}
		if p.size += len(b) + 1; p.size > maxProfile {
			return nil, fmt.Errorf("the profile has more than %d bytes", maxProfile)
		}
		sum := sha256.Sum256(b)
		p.sums = append(p.sums, [16]byte(sum[:]))
		all.Write(sum[:])
	}
	p.key = hex.EncodeToString(all.Sum(nil)[:16])
	return p, nil
}

// readProfile returns the profile in m, or nil if the replica sends no profile.
func readProfile(m *feedpb.Profile) (*profile, error) {
	if m == nil {
		return nil, nil
	}
	issuers := make([]acceptedIssuer, 0, len(m.Issuers))
	for _, i := range m.Issuers {
		a := acceptedIssuer{Issuer: i.GetIssuer(), Audiences: i.GetAudiences(), AnyAudience: i.GetAnyAudience()}
		for _, c := range i.GetClaims() {
			if a.Claims == nil {
				a.Claims = make(map[string][]string)
			}
			a.Claims[c.GetName()] = append(a.Claims[c.GetName()], c.GetValues()...)
		}
		issuers = append(issuers, a)
	}
	return newProfile(issuers)
}

// accepts reports whether the replica counts as accepting the issuer.
func (p *profile) accepts(issuer string) bool {
	if p == nil {
		return true
	}
	_, found := slices.BinarySearchFunc(p.issuers, issuer, func(a acceptedIssuer, issuer string) int {
		return strings.Compare(a.Issuer, issuer)
	})
	return found
}

// accepted returns the issuers for other packages; nil for a nil profile.
func (p *profile) accepted() []revocation.AcceptedIssuer {
	if p == nil {
		return nil
	}
	out := make([]revocation.AcceptedIssuer, len(p.issuers))
	for i, a := range p.issuers {
		out[i] = revocation.AcceptedIssuer(a)
	}
	return out
}
