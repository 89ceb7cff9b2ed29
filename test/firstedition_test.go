package test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// A store and a snapshot of the first edition are opened by this edition. Every
// revocation means the same or more, and until the control endpoint is there the
// replica lets no revoked token through.
func TestFirstEditionStoreAndSnapshot(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startEditions(t, true, true)
	e.revokeTargets(func(name string, status int, pending []string) {
		if status != http.StatusCreated {
			t.Fatalf("revoke %s at the first edition: wanted 201, got %d, pending %v", name, status, pending)
		}
	})
	e.denies(0, "all of the first edition")
	before := e.listed()
	e.Control[0].Stop()

	e.replaceReplica(0, rescind)
	e.letsNoneThrough(0, "on a snapshot of the first edition and without a control endpoint")

	e.replaceControl(rescind)
	e.replicaReady(0)
	e.denies(0, "on a store of the first edition")
	e.denies(1, "still of the first edition, behind the new control endpoint")
	for id, want := range before {
		want = strings.ReplaceAll(want, "map[/odd:x]", "map[/~1odd:x]") // the same claim, as it is spelled now
		if got := e.listed()[id]; got != want {
			t.Errorf("revocation %s: got\n%s\nwant the list of the first edition:\n%s", id, got, want)
		}
	}
	e.replaceReplica(1, rescind)
	e.replicaReady(1)
	e.denies(1, "with both replicas of this edition")
}

// A replica of the first edition follows this control endpoint. It counts as
// pending for each revocation that it cannot match in full, and is served the rest.
func TestFirstEditionReplicaFollows(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startEditions(t, false, false)
	e.replaceReplica(1, e.old)
	e.replicaReady(1)
	e.replicaReady(0)
	eventually.True(t, "both replicas follow", func() bool { return e.connected() == 2 })
	e.revokeTargets(func(name string, status int, pending []string) {
		i := slices.IndexFunc(targets, func(c target) bool { return c.name == name })
		switch {
		case targets[i].inFull && status != http.StatusCreated:
			t.Errorf("revoke %s: wanted 201, got %d, pending %v", name, status, pending)
		case !targets[i].inFull && (status != http.StatusAccepted || !slices.Equal(pending, []string{envoytest.ReplicaName(1)})):
			t.Errorf("revoke %s: wanted 202 with the old replica pending, got %d, pending %v", name, status, pending)
		}
	})
	e.denies(0, "of this edition")
	e.denies(1, "of the first edition")

	var list struct {
		Items []struct{ Name, Version string }
	}
	if a, err := e.Admin(t.Context(), http.MethodGet, "/v1/replicas", nil, &list); err != nil || a.Status != http.StatusOK {
		t.Fatalf("replicas: wanted 200, got %d %s %v", a.Status, a.Body, err)
	}
	for _, item := range list.Items {
		if isOld := item.Name == envoytest.ReplicaName(1); isOld == (item.Version != "") {
			t.Errorf("replicas: wanted a version of %s: %v, got %q", item.Name, !isOld, item.Version)
		}
	}
}

// This replica follows a control endpoint of the first edition, and goes on when
// the control endpoint is replaced.
func TestFirstEditionControlIsFollowed(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startEditions(t, true, false)
	e.revokeTargets(func(name string, status int, pending []string) {
		if status != http.StatusCreated {
			t.Errorf("revoke %s: wanted 201, got %d, pending %v", name, status, pending)
		}
	})
	for i := range e.replicas {
		e.denies(i, "behind a control endpoint of the first edition")
	}
	e.replaceControl(rescind)
	eventually.True(t, "both replicas follow the new control endpoint", func() bool { return e.connected() == 2 })
	for i := range e.replicas {
		e.denies(i, "behind the new control endpoint")
	}
}

// The first edition opens neither a log nor a snapshot that this edition wrote: the
// control endpoint refuses the log by name, and a replica lets no revoked token
// through.
func TestFirstEditionRefusesNewerFiles(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startEditions(t, false, false)
	e.revokeTargets(func(name string, status int, pending []string) {
		if status != http.StatusCreated {
			t.Errorf("revoke %s: wanted 201, got %d, pending %v", name, status, pending)
		}
	})
	e.Replicas[0].Stop() // writes its snapshot
	e.Control[0].Stop()
	e.replaceReplica(0, e.old)
	e.letsNoneThrough(0, "of the first edition, on a newer snapshot and without a control endpoint")

	e.Binary = e.old
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := e.StartControl(ctx, 0)
	if err == nil {
		err = e.WaitControl(ctx, 0)
	}
	log, readErr := os.ReadFile(filepath.Join(e.Dir, envoytest.NodeName(0)+".log"))
	if err == nil || errors.Is(err, context.DeadlineExceeded) || readErr != nil || !strings.Contains(string(log), "use the version of rescind that wrote it") {
		t.Errorf("wanted the control endpoint of the first edition to refuse the newer log by name, got %v, and its log ends\n%s", err, log[max(0, len(log)-1500):])
	}
}
