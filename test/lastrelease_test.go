package test

import (
	"net/http"
	"testing"

	"rescind/test/eventually"
)

// acceptedByAll demands that every replica has a revocation in force.
func acceptedByAll(t *testing.T) func(name string, status int, pending []string) {
	return func(name string, status int, pending []string) {
		if status != http.StatusCreated {
			t.Errorf("revoke %s: wanted 201, got %d, pending %v", name, status, pending)
		}
	}
}

// The replicas of the last release are replaced one by one, and then the control
// endpoint. Meanwhile each edition follows the other, and no revocation is lost.
func TestLastReleaseIsUpgraded(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startBeside(t, needEdition(t, buildLastRelease), true, true)
	e.revokeTargets(acceptedByAll(t))
	before := e.listed()

	e.replaceReplica(0, rescind)
	e.replicaReady(0)
	e.denies(0, "of this edition, behind the control endpoint of the last release")
	e.Control[0].Stop()
	e.replaceReplica(1, rescind)
	e.letsNoneThrough(1, "on the files of the last release and without a control endpoint")
	e.replaceReplica(1, e.old)

	e.replaceControl(rescind)
	for i := range e.replicas {
		e.replicaReady(i)
	}
	eventually.True(t, "both replicas follow", func() bool { return e.connected() == 2 })
	e.denies(0, "of this edition, on the store of the last release")
	e.denies(1, "of the last release, behind the control endpoint of this edition")
	for id, want := range before {
		if got := e.listed()[id]; got != want {
			t.Errorf("revocation %s: got\n%s\nwant the list of the last release:\n%s", id, got, want)
		}
	}
	for i := range e.replicas {
		e.decides(i, "before a new revocation", e.untouched, "ok")
	}
	revoked(t, e.Stack, map[string]any{"claims": map[string]any{"jti": "untouched"}})
	for i := range e.replicas {
		if got, err := e.reason(i, e.untouched); err != nil || got != "revoked" {
			t.Errorf("replica %d, after a revocation at the new control endpoint: got %q, %v, want revoked", i, got, err)
		}
	}
}

// A replica of this edition and one of the last release follow a control endpoint
// of this edition, for every kind of revocation.
func TestLastReleaseReplicaFollows(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startBeside(t, needEdition(t, buildLastRelease), false, false)
	e.replaceReplica(1, e.old)
	for i := range e.replicas {
		e.replicaReady(i)
	}
	eventually.True(t, "both replicas follow", func() bool { return e.connected() == 2 })
	e.revokeTargets(acceptedByAll(t))
	e.denies(0, "of this edition")
	e.denies(1, "of the last release")
}
