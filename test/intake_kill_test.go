package test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// logoutsThroughAKill posts logout tokens and kills the control node between them.
// A logout that was answered is in force after the restart. One that was not is
// sent again, and none becomes two revocations.
func logoutsThroughAKill(t *testing.T, s *envoytest.Stack) {
	const logouts = 60
	ctx := context.WithoutCancel(t.Context())
	sid := func(i int) string { return fmt.Sprint("killed-", i) }
	var tokens [logouts]string
	for i := range tokens {
		token, err := s.Issuer.LogoutToken(map[string]any{"sub": "erin", "sid": sid(i)})
		if err != nil {
			t.Fatal(err)
		}
		tokens[i] = token
	}
	post := func(i int) error {
		res, err := http.PostForm(s.IntakeURLs[0]+"/intake/idp/logout", url.Values{"logout_token": {tokens[i]}})
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("the answer is %d", res.StatusCode)
		}
		return nil
	}

	var answered [logouts]atomic.Bool
	var taken atomic.Int32
	var senders sync.WaitGroup
	for first := range 4 {
		senders.Go(func() {
			for i := first; i < logouts; i += 4 {
				if post(i) == nil {
					answered[i].Store(true)
					taken.Add(1)
				}
			}
		})
	}
	eventually.True(t, "some logouts are answered", func() bool { return taken.Load() >= 10 })
	s.Control[0].Kill()
	senders.Wait()
	if n := taken.Load(); n == logouts {
		t.Logf("all %d logouts were answered before the kill", n)
	}
	if err := s.StartControl(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitControl(ctx, 0); err != nil {
		t.Fatal(err)
	}

	count := func(i int) int {
		t.Helper()
		var list struct{ Items []struct{ ID string } }
		path := "/v1/revocations?claim=" + url.QueryEscape("sid="+sid(i))
		if a, err := s.Admin(ctx, http.MethodGet, path, nil, &list); err != nil || a.Status != http.StatusOK {
			t.Fatalf("GET %s: got %d and %v, want 200", path, a.Status, err)
		}
		return len(list.Items)
	}
	for i := range logouts {
		if n := count(i); answered[i].Load() && n != 1 {
			t.Errorf("the logout of %s was answered: got %d revocations after the restart, want 1", sid(i), n)
		}
	}
	for i := range logouts {
		eventually.Succeeds(t, "the logout of "+sid(i)+" is taken again", func() error { return post(i) })
		if n := count(i); n != 1 {
			t.Errorf("the logout of %s, sent again: got %d revocations, want 1", sid(i), n)
		}
	}
	var audit struct{ Items []struct{ By, Reason string } }
	if _, err := s.Admin(ctx, http.MethodGet, "/v1/audit?by=intake:idp&limit=100", nil, &audit); err != nil || len(audit.Items) == 0 || !strings.HasPrefix(audit.Items[0].Reason, "event ") {
		t.Errorf("the audit: got %+v and %v, want entries that name their events", audit.Items, err)
	}
}
