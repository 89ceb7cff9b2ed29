package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
)

// TestAnEntryEndsByBothClocks has a replica whose clock is an hour fast.
func TestAnEntryEndsByBothClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{})
		defer f.Close()
		loadEntries(t, f, "log-1", 1, entryOf(1, 0, revocation.MicrosOf(time.Now().Add(30*time.Minute)), "alice"))
		server := time.Now().Add(-time.Hour)
		f.Contact(1, server, 0)
		time.Sleep(31 * time.Minute)
		f.Contact(1, server.Add(31*time.Minute), 0)
		wantDenied(t, f, map[string]bool{"alice": true}) // it has ended by our clock alone
		time.Sleep(time.Hour)
		wantDenied(t, f, map[string]bool{"alice": false})
		time.Sleep(time.Hour)
		if n := f.Status().Entries; n != 0 {
			t.Errorf("%d entries an hour after the end by both clocks, want 0", n)
		}
	})
}

// TestAFastClockAtTheStartDropsNothing starts a replica whose clock is an hour
// ahead: with a set on disk, and with one that it loads. By its own clock the
// entry has ended. Until the control endpoint's time is known the entry stays,
// and denies.
func TestAFastClockAtTheStartDropsNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		onDisk bool
	}{{"from disk", true}, {"from the feed", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				server := time.Now()
				alice := entryOf(1, 0, revocation.MicrosOf(server.Add(30*time.Minute)), "alice")
				if c.onDisk {
					f := open(t, Options{Dir: dir})
					loadEntries(t, f, "log-1", 1, alice)
					noError(t, "Close", f.Close())
				}
				time.Sleep(time.Hour) // our clock alone: the server's stays
				f := open(t, Options{Dir: dir})
				defer f.Close()
				if !c.onDisk {
					loadEntries(t, f, "log-1", 1, alice)
				}
				bob := change(2)
				bob.Added = []revocation.Entry{entryOf(2, 0, revocation.MicrosOf(server.Add(40*time.Minute)), "bob")}
				apply(t, f, bob)
				time.Sleep(time.Minute)
				server = server.Add(time.Minute)
				if n := f.Status().Entries; n != 2 {
					t.Errorf("before the control endpoint's time is known: %d entries, want 2", n)
				}
				wantDenied(t, f, map[string]bool{"alice": true, "bob": true})
				noError(t, "Greet", f.Greet("log-1", 2, month))
				f.Contact(2, server, 0)
				time.Sleep(28 * time.Minute)
				wantDenied(t, f, map[string]bool{"alice": true, "bob": true})
				time.Sleep(2 * time.Minute) // 31 minutes by the control endpoint's clock
				wantDenied(t, f, map[string]bool{"alice": false, "bob": true})
				time.Sleep(time.Hour)
				if n := f.Status().Entries; n != 0 {
					t.Errorf("an hour after the end of both: %d entries, want 0", n)
				}
			})
		})
	}
}

// TestAClockYearsBehindKeepsNoEntryForYears starts a replica whose clock says
// 2000. The entries that it places then are dropped when they have ended.
func TestAClockYearsBehindKeepsNoEntryForYears(t *testing.T) {
	s := newSet(0)
	const decade = 10 * 365 * 86_400
	ends := int64(decade + 86_400)
	noError(t, "apply", s.apply([]revocation.Entry{entryOf(1, 0, seconds(ends), "alice")}, nil, clock{now: seconds(1)}))
	s.sweep(seconds(ends + 12*86_400))
	if s.len() != 0 {
		t.Errorf("%d entries 12 days after the end, want 0", s.len())
	}
}
