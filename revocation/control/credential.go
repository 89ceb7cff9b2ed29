package control

import (
	"fmt"
	"strings"

	"rescind/revocation/ledger"
)

// Credential is a bearer token that is known by its hash.
type Credential struct {
	Name    string
	SHA256  [32]byte
	Roles   []ledger.Role
	Issuers []string // narrows the credential to these; nil is every issuer
}

// caller returns the caller that presents c from a network address.
func (c *Credential) caller(from string) ledger.Caller {
	return ledger.Caller{Name: c.Name, Roles: c.Roles, Issuers: c.Issuers, From: from}
}

func checkCredentials(list []Credential) error {
	for i, c := range list {
		if c.Name == "" {
			return fmt.Errorf("admin.tokens: token %d has no name", i+1)
		}
		if strings.HasPrefix(c.Name, byAlert) {
			return fmt.Errorf("admin.tokens: token %s: names that begin with %s are those of alert actions; choose another", c.Name, byAlert)
		}
		if len(c.Roles) == 0 {
			return fmt.Errorf("admin.tokens: token %s has no role; roles are viewer, revoker and operator", c.Name)
		}
		for _, r := range c.Roles {
			if r != ledger.Viewer && r != ledger.Revoker && r != ledger.Operator {
				return fmt.Errorf("admin.tokens: token %s has the role %q; roles are viewer, revoker and operator", c.Name, r)
			}
		}
		for _, other := range list[:i] {
			switch {
			case other.Name == c.Name:
				return fmt.Errorf("admin.tokens: two tokens have the name %s", c.Name)
			case other.SHA256 == c.SHA256:
				return fmt.Errorf("admin.tokens: tokens %s and %s have the same sha256; each needs a token of its own", other.Name, c.Name)
			}
		}
	}
	return nil
}
