package control

import (
	"fmt"
	"slices"
	"strings"

	"rescind/revocation"
)

// Role says what a credential may do.
type Role string

const (
	Viewer   Role = "viewer"   // reads
	Revoker  Role = "revoker"  // also revokes and restores, but not all, block or kid
	Operator Role = "operator" // everything
)

// Credential is a bearer token that is known by its hash.
type Credential struct {
	Name    string
	SHA256  [32]byte
	Roles   []Role
	Issuers []string // narrows it to these; nil = every issuer
}

func checkCredentials(list []Credential) error {
	for i, c := range list {
		if c.Name == "" {
			return fmt.Errorf("credential %d has no name", i+1)
		}
		if strings.HasPrefix(c.Name, byAlert) {
			return fmt.Errorf("credential %s: names that begin with %s are those of actions", c.Name, byAlert)
		}
		if len(c.Roles) == 0 {
			return fmt.Errorf("credential %s has no role", c.Name)
		}
		for _, r := range c.Roles {
			if r != Viewer && r != Revoker && r != Operator {
				return fmt.Errorf("credential %s has role %q; roles are viewer, revoker and operator", c.Name, r)
			}
		}
		for _, other := range list[:i] {
			if other.Name == c.Name || other.SHA256 == c.SHA256 {
				return fmt.Errorf("credentials %s and %s are the same", other.Name, c.Name)
			}
		}
	}
	return nil
}

func (c *Credential) has(roles ...Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(c.Roles, r) })
}

// covers says whether c may have to do with an issuer at all.
func (c *Credential) covers(issuer string) bool {
	return c.Issuers == nil || slices.Contains(c.Issuers, issuer)
}

// forbids says why c may not make or undo r; empty if it may.
func (c *Credential) forbids(r *revocation.Revocation) string {
	switch {
	case !c.has(Revoker, Operator):
		return "this takes the role revoker or operator"
	case !c.covers(r.Issuer):
		return "the credential is not for this issuer"
	case c.has(Operator):
		return ""
	case r.Target.Kind == revocation.KindAll:
		return "all takes the role operator"
	case r.Target.Kind == revocation.KindKeyID:
		return "kid takes the role operator"
	case r.Block:
		return "block takes the role operator"
	}
	return ""
}
