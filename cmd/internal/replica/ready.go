package replica

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"rescind/cmd/internal/daemon"
)

// readyKeys are the keys and status lists that readiness looks at, while a reload
// replaces them.
type readyKeys struct {
	of atomic.Pointer[map[string]issuerKeys]
}

func (k *readyKeys) store(issuers map[string]issuerKeys) {
	of := maps.Clone(issuers)
	k.of.Store(&of)
}

// readiness reports whether the replica can answer Checks: it needs a complete
// revocation set, and the keys of at least one issuer.
func (p *process) readiness() (out daemon.Readiness) {
	revocations := p.follower.Status()
	if revocations.Ready {
		out.Notes = revocations.Missing
	} else {
		out.Missing = revocations.Missing
	}
	if revocations.Stale {
		out.Notes = append(out.Notes, "the revocations are stale: the control endpoint has not been heard of lately")
	}
	var lacking []string
	usable, of := 0, *p.ready.of.Load()
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if lists := of[name].status; lists != nil && lists.lists.Failing() > 0 {
			out.Notes = append(out.Notes, fmt.Sprintf("%d status lists of issuer %s could not be refreshed; the log says why", lists.lists.Failing(), name))
		}
		status := of[name].keys.Status()
		if status.Usable() {
			usable++
			continue
		}
		why := status.LastError
		if why == "" {
			why = "they have not been fetched yet"
		}
		lacking = append(lacking, fmt.Sprintf("there are no keys of issuer %s: %s", name, why))
	}
	if usable == 0 {
		out.Missing = append(out.Missing, lacking...)
	} else {
		out.Notes = append(out.Notes, lacking...)
	}
	if note := p.reloadNote.Load(); note != nil && *note != "" {
		out.Notes = append(out.Notes, *note)
	}
	return out
}
