package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// Every entry of the audit has at most 4 KiB, for every request.
func TestEntryIsBounded(t *testing.T) {
	claims := map[string]any{}
	for i := range revocation.MaxClaims {
		claims[fmt.Sprintf("%02d%s", i, strings.Repeat("n", revocation.MaxName-2))] = strings.Repeat(`"`, revocation.MaxValue)
	}
	var issuers []string
	for i := range maxIssuers {
		issuers = append(issuers, fmt.Sprintf("https://%d.example/%s", i, strings.Repeat("<", 1000)))
	}
	quotes := strings.Repeat(`"`, revocation.MaxReason)
	for name, e := range map[string]AuditEntry{
		"many issuers":    {Issuers: issuers},
		"long target":     {Target: &Target{Claims: claims}, Issuers: issuers[:1]},
		"all of it":       {Target: &Target{Claims: claims}, Issuers: issuers, Reason: quotes, Detail: quotes + quotes + quotes, By: quotes, From: quotes, ID: quotes},
		"one long issuer": {Issuers: []string{"https://a.example/" + quotes}, Reason: quotes, Detail: quotes + quotes + quotes, By: quotes, From: quotes, ID: quotes},
	} {
		b := e.bounded()
		text, err := appendJSON(nil, b)
		if err != nil || len(text) > maxAuditEntry {
			t.Errorf("%s: %d bytes, %v; want at most %d", name, len(text), err, maxAuditEntry)
		}
		if len(b.Issuers)+b.IssuersOmitted != len(e.Issuers) {
			t.Errorf("%s: %d issuers and %d omitted, want %d together", name, len(b.Issuers), b.IssuersOmitted, len(e.Issuers))
		}
	}
	small := AuditEntry{By: "a", Issuers: []string{issuerA}, Target: &Target{Claims: map[string]any{"sub": "alice"}}, Reason: "left"}
	if got := small.bounded(); got.Target == nil || got.Reason != "left" || got.IssuersOmitted != 0 {
		t.Errorf("a short entry became %+v, want it unchanged", got)
	}
}

// A credential that is refused all the time does not fill the audit. The next
// entry says how many are missing.
func TestRefusalsInTheAuditAreBounded(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer stop()
	a := NewAuthority(l, AuthorityOptions{})
	viewer := &Caller{Name: "viewer", Roles: []Role{Viewer}}
	for range 2000 {
		if err := a.Admit(t.Context(), viewer, ActRevoke); err == nil {
			t.Fatal("a viewer may revoke, want it denied")
		}
	}
	if n := len(log.Lines); n > 250 {
		t.Errorf("2000 refusals made %d entries, want about 200", n)
	}
	eventually.True(t, "an entry names the missing ones", func() bool {
		_ = a.Admit(t.Context(), viewer, ActRevoke)
		var last []AuditEntry
		if err := json.Unmarshal(log.Lines[len(log.Lines)-1], &last); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(last[0].Detail, "refusals before are not in the audit")
	})
}

// A page for a caller that may see nothing ends after a bounded look.
func TestPagesAreBounded(t *testing.T) {
	log := ledgertest.New()
	var all []revocation.Revocation
	one := made(t, "x", `{"sub":"a"}`)
	for i := range 5 * chunkRows {
		r := one
		r.Before = revocation.Micros(i + 1)
		all = append(all, r)
	}
	other := made(t, "x", `{"sub":"b"}`)
	other.Issuer = issuerB
	log.Add(batchOf("w", append([]revocation.Revocation{other}, all...)...))
	l, stop := run(t, log, nil, func(l *Ledger) { l.maxScan = 2 * chunkRows })
	defer stop()
	a := NewAuthority(l, AuthorityOptions{})
	bound := &Caller{Name: "bound", Roles: []Role{Viewer}, Issuers: []string{issuerB}}
	q := Query{Limit: 10}
	pages, found := 0, 0
	for {
		items, next, err := a.List(bound, q)
		if err != nil {
			t.Fatal(err)
		}
		pages, found = pages+1, found+len(items)
		if next == (revocation.ID{}) {
			break
		}
		q.Before = next
	}
	if pages != 3 || found != 1 {
		t.Errorf("%d pages with %d revocations, want 3 pages, each of 2 chunks, with 1", pages, found)
	}
	nothing := &Caller{Name: "nothing", Roles: []Role{Viewer}, Issuers: []string{"https://c.example/"}}
	if items, next, err := a.List(nothing, Query{Limit: 10}); len(items) != 0 || next != (revocation.ID{}) || err != nil {
		t.Errorf("a page of an issuer without revocations: %d items, next %v, %v; want the last page, empty", len(items), next, err)
	}
}

// A page of the audit looks at a bounded number of entries.
func TestAuditPagesAreBounded(t *testing.T) {
	log := ledgertest.New()
	entries := make([]AuditEntry, 1000)
	for i := range entries {
		entries[i] = AuditEntry{By: "a", Issuers: []string{issuerA}}
	}
	body, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	for range 25 {
		log.Lines = append(log.Lines, body)
	}
	l, stop := run(t, log, nil)
	defer stop()
	a := NewAuthority(l, AuthorityOptions{})
	bound := &Caller{Name: "bound", Roles: []Role{Viewer}, Issuers: []string{issuerB}}
	first, next, err := a.Audit(t.Context(), bound, AuditQuery{Limit: 100})
	if err != nil || len(first) != 0 || next == (AuditCursor{}) {
		t.Fatalf("the first page: %d entries, next %v, %v; want none, and a next page", len(first), next, err)
	}
	second, next, err := a.Audit(t.Context(), bound, AuditQuery{Before: next, Limit: 100})
	if err != nil || len(second) != 0 || next != (AuditCursor{}) {
		t.Errorf("the second page: %d entries, next %v, %v; want none, and the last page", len(second), next, err)
	}
}

// A query by time ends at the first note that is clearly earlier, so its price
// follows from the time asked for and not from the size of the audit.
func TestAuditEndsAtItsTime(t *testing.T) {
	log, now := ledgertest.New(), time.Now()
	log.LineTimes = map[uint64]time.Time{}
	add := func(written time.Time, body string) {
		log.Lines = append(log.Lines, []byte(body))
		log.LineTimes[uint64(len(log.Lines))] = written
	}
	entry := func(by string, at time.Time) string {
		return fmt.Sprintf(`[{"by":%q,"at":%q}]`, by, at.Format(time.RFC3339Nano))
	}
	add(now.Add(-2*time.Hour), "this cannot be read")
	add(now.Add(-time.Hour), entry("noted late", now.Add(-3*time.Hour)))
	add(now.Add(-time.Hour), entry("early", now.Add(-time.Hour)))
	add(now.Add(-time.Minute), entry("noted late", now.Add(-3*time.Hour)))
	add(now.Add(-time.Minute), entry("late", now.Add(-time.Minute)))
	add(now, entry("latest", now))
	l, stop := run(t, log, nil)
	defer stop()
	a, c := NewAuthority(l, AuthorityOptions{}), &Caller{Name: "v", Roles: []Role{Viewer}}
	for _, tt := range []struct {
		ago  time.Duration
		want string
	}{{0, ""}, {30 * time.Second, "latest"}, {2 * time.Minute, "latest, late"}, {90 * time.Minute, "latest, late, early"}} {
		entries, next, err := a.Audit(t.Context(), c, AuditQuery{After: now.Add(-tt.ago), Limit: 100})
		var got []string
		for _, e := range entries {
			got = append(got, e.By)
		}
		if s := strings.Join(got, ", "); s != tt.want || err != nil || next != (AuditCursor{}) {
			t.Errorf("after %v ago: %q, next %v, %v; want %q, and the last page", tt.ago, s, next, err, tt.want)
		}
	}
	if _, _, err := a.Audit(t.Context(), c, AuditQuery{Limit: 100}); !errors.Is(err, errBadNote) {
		t.Errorf("without a time: %v, want that the oldest note cannot be read", err)
	}
}

// An issuer that an entry leaves out may be any issuer.
func TestAuditOfAnIssuerShowsEntriesThatLeaveIssuersOut(t *testing.T) {
	q := AuditQuery{Issuer: issuerB}
	for _, tt := range []struct {
		e    AuditEntry
		want bool
	}{
		{AuditEntry{Issuers: []string{issuerA}}, false},
		{AuditEntry{Issuers: []string{issuerA, issuerB}}, true},
		{AuditEntry{Issuers: []string{issuerA}, IssuersOmitted: 1}, true},
		{AuditEntry{}, false},
	} {
		if got := q.chooses(&tt.e); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.e, got, tt.want)
		}
	}
}
