package replica

import (
	"testing"
	"time"

	revset "rescind/revocation/replica"
)

// must ends the test on an error.
func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// follower returns a follower that holds a complete, empty set.
func follower(t testing.TB) *revset.Follower {
	t.Helper()
	f, err := revset.Open(revset.Options{})
	must(t, f, err)
	t.Cleanup(func() { _ = f.Close() })
	must(t, 0, f.Greet("log", 7, 720*time.Hour))
	loading, err := f.Load("log", 7, 0)
	must(t, 0, must(t, loading, err).Commit())
	return f
}
