package config

import (
	"errors"
	"path/filepath"
)

// Known says how Envoy itself answers for tokens that the replica has verified.
type Known struct {
	Socket   string  // absolute path
	Entries  int     // tokens that find room
	EnvoyUID int     // user of Envoy; -1: any that the mode of the socket admits
	Group    string  // that may use the socket; empty: the group of the replica
	Audit    float64 // the share of known requests that ask the replica all the same
}

func readKnown(v value, a *Authz) {
	k := &Known{Entries: 65536, EnvoyUID: -1, Audit: 0.01}
	v.object(keys{
		"socket":    need(&k.Socket, "the path of the Unix socket that Envoy's module connects to", text(isSocketPath)),
		"entries":   into(&k.Entries, count(1024, 1<<24)),
		"envoy_uid": into(&k.EnvoyUID, count(0, 1<<31-1)),
		"group":     into(&k.Group, text()),
		"audit":     into(&k.Audit, ratio),
	})
	a.Known = k
}

// mostSocketPath is the length of the longest path of a Unix socket on Linux.
const mostSocketPath = 107

func isSocketPath(s string) error {
	if !filepath.IsAbs(s) || len(s) > mostSocketPath {
		return errors.New("must be an absolute path of at most 107 bytes, such as /run/rescind/known.sock")
	}
	return nil
}
