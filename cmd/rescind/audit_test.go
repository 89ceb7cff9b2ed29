package main

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The latest entries are shown first, then each new one once, also those made
// while the control endpoint was away.
func TestAuditIsFollowed(t *testing.T) {
	e := serve(t)
	revoke := func(jti string) { e.rescind("revoke", "--issuer", idp, "--jti", jti).want(0) }
	revoke("old1")
	revoke("old2")
	revoke("old3")
	out, errs := &printed{}, &printed{}
	a := &app{out: out, errs: errs, now: time.Now, output: "text", width: noTerminal}
	a.getenv = func(name string) string { return map[string]string{"RESCIND_TOKEN": tokenOf("viewer")}[name] }
	c, err := (&connection{app: a, control: e.url}).open()
	if err != nil {
		t.Fatal(err)
	}
	away := &absent{next: c.http.Transport}
	c.http.Transport = away
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- auditEntries(a).follow(ctx, newAuditTail(c, url.Values{}, 2).fresh) }()
	out.until(t, "old3")
	revoke("new1")
	revoke("new2")
	out.until(t, "new2")
	away.set(true)
	revoke("new3")
	errs.until(t, "asking again")
	away.set(false)
	out.until(t, "new3")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("follow ended with %v, want nil", err)
	}
	var got []string
	for _, word := range strings.Fields(out.String()) {
		if jti, ok := strings.CutPrefix(word, "jti="); ok {
			got = append(got, jti)
		}
	}
	if s := strings.Join(got, " "); s != "old2 old3 new1 new2 new3" {
		t.Errorf("shown %q, want old2 old3 new1 new2 new3", s)
	}
}
