package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Known says how Envoy itself answers for tokens that the replica has verified.
type Known struct {
	Socket  string // absolute path
	Entries int    // tokens that find room
	// AnswerBytes is the room for the headers of a token. A token that needs more is
	// never known.
	AnswerBytes int
	EnvoyUID    int     // user of Envoy; -1: any that the mode of the socket admits
	Group       string  // that may use the socket; empty: the group of the replica
	Audit       float64 // the share of known requests that ask the replica all the same
}

func readKnown(v value, a *Authz) {
	k := &Known{Entries: 65536, AnswerBytes: 256, EnvoyUID: -1, Audit: 0.01}
	v.object(keys{
		"answer_bytes": into(&k.AnswerBytes, count(64, 960)),
		"socket":       need(&k.Socket, "the path of the Unix socket that Envoy's module connects to", text(isSocketPath)),
		"entries":      into(&k.Entries, count(1024, 1<<24)),
		"envoy_uid":    into(&k.EnvoyUID, count(0, 1<<31-1)),
		"group":        into(&k.Group, text()),
		"audit":        into(&k.Audit, ratio),
	})
	a.Known = k
}

// bytesOfToken is the room that a verified token takes in the cache, for most tokens.
const bytesOfToken = 4096

// fitCache gives the cache of verified tokens room for all known tokens, unless the
// file says how large it is. A token that the cache forgets leaves the table.
func (a *Authz) fitCache(v value) {
	switch size := v.at("token_cache", "max_bytes"); {
	case a.Known == nil:
	case a.TokenCache == 0:
		v.at("known_tokens").fault("needs token_cache.max_bytes above 0, because only tokens that are remembered become known")
	case size.absent():
		a.TokenCache = max(a.TokenCache, a.Known.Entries*bytesOfToken)
	case a.TokenCache < a.Known.Entries*bytesOfToken/2:
		size.warn("has no room for the %d tokens of known_tokens.entries, and a token without room leaves Envoy at its next use; %d bytes have room", a.Known.Entries, a.Known.Entries*bytesOfToken)
	}
}

// mostSocketPath is the length of the longest path of a Unix socket on Linux.
const mostSocketPath = 107

func isSocketPath(s string) error {
	const must = "must be an absolute path of at most 107 bytes, such as /run/rescind/known.sock"
	switch {
	case !filepath.IsAbs(s):
		return fmt.Errorf("%s; %.80q is relative", must, s)
	case len(s) > mostSocketPath:
		return fmt.Errorf("%s; this one has %d", must, len(s))
	case strings.HasSuffix(s, "/"):
		return errors.New("ends with a slash; name the socket, such as /run/rescind/known.sock")
	}
	return nil
}
