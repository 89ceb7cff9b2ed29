// Package eventually waits in tests for a condition. A wait ends as soon as its
// condition holds, so the limit may be generous: it decides only how long a
// broken test takes. Under testing/synctest the time is the bubble's.
package eventually

import (
	"testing"
	"time"
)

// Limit is how long a condition may take, unless the caller sets a limit. A
// machine that runs other tests beside is slow, so the limit is long.
const Limit = time.Minute

// True waits until the condition holds. It fails the test with the description
// of the condition, for example "the replica is ready", once Limit has passed.
func True(t testing.TB, condition string, holds func() bool) {
	t.Helper()
	TrueWithin(t, Limit, condition, holds)
}

// TrueWithin is True with a limit of the caller's.
func TrueWithin(t testing.TB, limit time.Duration, condition string, holds func() bool) {
	t.Helper()
	if !poll(t, limit, holds) {
		t.Fatalf("after %v the condition does not hold, want %s", limit, condition)
	}
}

// Succeeds waits until attempt returns no error. It fails the test with the
// description of the attempt and its last error once Limit has passed.
func Succeeds(t testing.TB, description string, attempt func() error) {
	t.Helper()
	SucceedsWithin(t, Limit, description, attempt)
}

// SucceedsWithin is Succeeds with a limit of the caller's.
func SucceedsWithin(t testing.TB, limit time.Duration, description string, attempt func() error) {
	t.Helper()
	var err error
	if !poll(t, limit, func() bool { err = attempt(); return err == nil }) {
		t.Fatalf("%s: got %v after %v, want nil", description, err, limit)
	}
}

// poll reports whether the condition held before the limit. The pauses grow from
// one millisecond to fifty: a quick condition costs no time, a slow one no CPU.
func poll(t testing.TB, limit time.Duration, holds func() bool) bool {
	t.Helper()
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(pause*5/4+time.Millisecond/2, 50*time.Millisecond) {
		if holds() {
			return true
		}
		if t.Context().Err() != nil || time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}
