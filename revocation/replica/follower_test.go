package replica

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
)

// TestItNeverGoesBack offers an earlier revision and another log to a follower:
// on its first connection, after a restart, and after its set was discarded.
func TestItNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log-1", 5, "alice")
	check := func(when string) {
		t.Helper()
		for _, c := range []struct {
			log      string
			revision uint64
			want     error
		}{{"log-1", 4, ErrOlderRevision}, {"log-2", 9, ErrForeignLog}, {"log-1", 5, nil}, {"log-1", 6, nil}} {
			if err := f.Greet(c.log, c.revision, month); !errors.Is(err, c.want) {
				t.Errorf("%s: Greet of %s at revision %d = %v, want %v", when, c.log, c.revision, err, c.want)
			}
			if s := f.Status(); (s.Refused != "") != (c.want != nil) {
				t.Errorf("%s: after %s at revision %d, refused is %q, want a text: %v", when, c.log, c.revision, s.Refused, c.want != nil)
			}
		}
		if _, err := f.Load("log-1", 4, 0); !errors.Is(err, ErrOlderRevision) {
			t.Errorf("%s: Load of revision 4 = %v, want %v", when, err, ErrOlderRevision)
		}
		if _, err := f.Load("log-2", 9, 0); err == nil {
			t.Errorf("%s: Load of a log that was not greeted = nil, want an error", when)
		}
	}
	check("loaded")
	noError(t, "Close", f.Close())
	f = open(t, Options{Dir: dir})
	defer f.Close()
	check("from disk")
	f.mu.Lock()
	f.discard("a test")
	f.mu.Unlock()
	check("discarded")
	if _, err := f.Lookup(subjectToken("alice"), time.Now()); !errors.Is(err, ErrNotReady) {
		t.Errorf("discarded: Lookup = %v, want %v", err, ErrNotReady)
	}

	// An operator replaces a log by its name.
	f.Accept([]string{"log-3"})
	if err := f.Greet("log-2", 1, month); !errors.Is(err, ErrForeignLog) {
		t.Errorf("an operator has replaced log-3: Greet of log-2 = %v, want %v", err, ErrForeignLog)
	}
	f.Accept([]string{"log-1"})
	load(t, f, "log-2", 1, "bob")
	wantPosition(t, f, "log-2", 1)
}

// TestACorruptSetIsDiscarded takes entries out of a set behind its back. Within
// a second or two the set is discarded, and every token is denied until it is
// loaded again.
func TestACorruptSetIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{})
		defer f.Close()
		load(t, f, "log-1", 5, "alice")
		noError(t, "Reset", aSegment(f.current.Load().set).cache.Reset())
		time.Sleep(2 * maintenance)
		if _, err := f.Lookup(subjectToken("alice"), time.Now()); !errors.Is(err, ErrNotReady) || f.Status().Ready {
			t.Errorf("Lookup = %v, ready: %v; want %v, false", err, f.Status().Ready, ErrNotReady)
		}
		wantPosition(t, f, "", 0)
		load(t, f, "log-1", 5, "alice")
		wantDenied(t, f, map[string]bool{"alice": true})
	})
}

// TestRevocationsMustOutlastTheTokens shows that a replica is not ready while a
// token may live longer than a revocation.
func TestRevocationsMustOutlastTheTokens(t *testing.T) {
	f := open(t, Options{Lifetimes: map[string]time.Duration{idp: month + time.Second, "https://other.example/": time.Hour}})
	defer f.Close()
	load(t, f, "log-1", 1)
	f.Contact(1, time.Now(), 0)
	s := f.Status()
	missing := strings.Join(s.Missing, "\n")
	for _, want := range []string{"max_lifetime", "store.retention", idp} {
		if s.Ready || len(s.Missing) != 1 || !strings.Contains(missing, want) {
			t.Errorf("tokens live a second longer than revocations: ready %v, missing %q; want not ready, and %q in the text", s.Ready, s.Missing, want)
		}
	}
	if _, err := f.Lookup(subjectToken("alice"), time.Now()); !errors.Is(err, ErrNotReady) {
		t.Errorf("tokens live a second longer than revocations: Lookup = %v, want %v", err, ErrNotReady)
	}
	if err := f.Fits(map[string]time.Duration{idp: 2 * month}); err != nil {
		t.Errorf("Fits of a replica that is not ready already = %v, want nil", err)
	}
	f.SetLimits(0, map[string]time.Duration{idp: month})
	if s := f.Status(); !s.Ready {
		t.Errorf("tokens live as long as revocations: %+v, want ready", s)
	}
	if err := f.Fits(map[string]time.Duration{idp: 2 * month}); err == nil {
		t.Error("Fits of a lifetime of two months = nil, want an error")
	}
	noError(t, "Greet", f.Greet("log-1", 1, month-time.Second))
	if s := f.Status(); s.Ready {
		t.Errorf("the retention was lowered: %+v, want not ready", s)
	}
}

// TestStaleness shows that the age of the set counts through restarts.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: t.TempDir(), MaxStaleness: time.Minute}
		f := open(t, o)
		load(t, f, "log-1", 1, "alice")
		f.Contact(1, time.Now(), 0)
		contact := time.Now()
		want := func(when string, stale bool) {
			t.Helper()
			v, err := f.Lookup(subjectToken("alice"), time.Now())
			if err != nil || v.Overdue != stale || v.Stale != stale || !v.Revoked {
				t.Errorf("%s: %+v, %v; want stale and overdue: %v, and revoked", when, v, err, stale)
			}
		}
		time.Sleep(time.Minute)
		want("at the limit", false)
		time.Sleep(time.Millisecond)
		want("beyond the limit", true)
		noError(t, "Close", f.Close())
		f = open(t, o)
		defer func() { noError(t, "Close", f.Close()) }()
		want("after a restart", true)
		if s := f.Status(); !s.LastContact.Equal(contact) {
			t.Errorf("after a restart the last contact is %v, want %v", s.LastContact, contact)
		}
		noError(t, "Greet", f.Greet("log-1", 1, month))
		f.Contact(1, time.Now(), 0)
		want("after another contact", false)
	})
}

// TestOnlyAContactAdvancesTheFreshness shows that loading and applying do not:
// their sender may itself be cut off from the log.
func TestOnlyAContactAdvancesTheFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{Dir: t.TempDir(), MaxStaleness: time.Minute})
		defer func() { noError(t, "Close", f.Close()) }()
		want := func(when string, stale, ready bool) {
			t.Helper()
			if s := f.Status(); s.Overdue != stale || s.Stale != stale || s.Ready != ready {
				t.Errorf("%s: %+v; want stale and overdue: %v, ready: %v", when, s, stale, ready)
			}
		}
		load(t, f, "log-1", 1, "alice")
		want("loaded, without a contact", true, false)
		if s := f.Status(); len(s.Missing) != 1 {
			t.Errorf("loaded, without a contact: missing %q, want the contact alone", s.Missing)
		}
		f.Contact(1, time.Now(), 50*time.Second)
		want("sure 50 s ago", false, true)
		time.Sleep(11 * time.Second)
		want("sure 61 s ago", true, true)
		apply(t, f, change(2, "bob"))
		want("changed, without a contact", true, true)
		f.Contact(2, time.Now(), time.Second)
		f.Contact(2, time.Now(), time.Hour) // from another node, which is cut off
		want("another node was sure a second ago", false, true)
		time.Sleep(time.Minute)
		f.Contact(2, time.Now(), time.Hour)
		want("a minute later", true, true)
		f.Contact(2, time.Now(), 0)
		f.Accept([]string{"log-1"})
		load(t, f, "log-2", 1, "carol")
		want("another log", true, true)
	})
}

// TestApplyRefusesAGap shows that changes which do not follow the follower's
// revision put nothing in force.
func TestApplyRefusesAGap(t *testing.T) {
	f := open(t, Options{})
	defer f.Close()
	if err := f.Apply([]revocation.Change{change(1, "bob")}); !errors.Is(err, ErrNotReady) {
		t.Errorf("Apply without a set = %v, want %v", err, ErrNotReady)
	}
	load(t, f, "log-1", 3, "alice")
	for _, revisions := range [][]uint64{{5}, {4, 6}, {4, 4}, {3, 5}} {
		var changes []revocation.Change
		for _, revision := range revisions {
			changes = append(changes, change(revision, "bob"))
		}
		if err := f.Apply(changes); err == nil {
			t.Errorf("Apply of revisions %d at revision 3 = nil, want an error", revisions)
		}
		wantPosition(t, f, "log-1", 3)
		wantDenied(t, f, map[string]bool{"alice": true, "bob": false})
	}
}
