package issuers

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
	"rescind/test/teststack"
)

// product is a rescind behind a real Envoy that takes in the events of a real
// issuer.
type product struct {
	*envoytest.Stack
	t *testing.T
}

// startProduct runs the product for the tokens of an issuer, with these intakes in
// control.yaml.
func startProduct(t *testing.T, issuer, intakes string) *product {
	t.Helper()
	s := teststack.Start(t, envoytest.Options{
		Binary: rescind, Envoy: gateway, Dir: t.TempDir(),
		Issuer: fmt.Sprintf("  - {issuer: %q, discovery: true, audiences: [api], min_refresh_interval: 1s, max_lifetime: 24h}\n", issuer),
		// A token under measurement is most of the traffic, and is not to be held.
		ControlConfig: "limits: {share_of_traffic: 1}\n" + intakes,
	})
	return &product{Stack: s, t: t}
}

// status returns the status of a request with this token.
func (p *product) status(token string) (int, error) {
	a, err := p.Get(p.t.Context(), "/", token)
	return a.Status, err
}

// accepts waits until Envoy lets a token pass. The first token of a key waits for
// the key.
func (p *product) accepts(t *testing.T, token string) {
	t.Helper()
	eventually.Succeeds(t, "the token is accepted", func() error {
		status, err := p.status(token)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("the status is %d", status)
		}
		return err
	})
}

// denied returns the time from which every replica denies a token: that of the
// first of four denials in a row, because Envoy asks the replicas by turns.
func (p *product) denied(t *testing.T, token string) (at time.Time) {
	t.Helper()
	begun := time.Now()
	for row := 0; row < 4; {
		status, err := p.status(token)
		must(t, err)
		switch {
		case status != http.StatusUnauthorized:
			row = 0
			time.Sleep(time.Millisecond) // the pace of the measurement
		case row == 0:
			at = time.Now()
			fallthrough
		default:
			row++
		}
		if time.Since(begun) > 30*time.Second {
			a, err := p.Admin(t.Context(), http.MethodGet, "/v1/intakes", nil, nil)
			t.Fatalf("after 30s the status is %d, want 401. The intakes are %s (%v)", status, a.Body, err)
		}
	}
	return at
}

// ends does an act that takes a token back. It returns the intake that heard of the
// act first, and the time from the beginning of the act to the denial.
func (p *product) ends(t *testing.T, token string, act func() error) (end end) {
	t.Helper()
	done := make(chan error, 1)
	since := time.Now()
	go func() { done <- act() }()
	end.took = p.denied(t, token).Sub(since)
	must(t, <-done)
	eventually.Succeeds(t, "the audit names the intake", func() error {
		names, err := p.by(since)
		if err == nil {
			end.intake = names[0]
		}
		return err
	})
	return end
}

// end is the end of a token.
type end struct {
	intake string
	took   time.Duration
}

// by returns the intakes that made a revocation since then, in their order.
func (p *product) by(since time.Time) (names []string, err error) {
	var page struct {
		Items []struct{ By, Action, Outcome string }
	}
	a, err := p.Admin(p.t.Context(), http.MethodGet, "/v1/audit?after="+url.QueryEscape(since.UTC().Format(time.RFC3339Nano)), nil, &page)
	if err != nil || a.Status != http.StatusOK {
		return nil, fmt.Errorf("the audit answers %d %s: %w", a.Status, a.Body, err)
	}
	for _, entry := range slices.Backward(page.Items) { // the newest is first
		if name, ok := strings.CutPrefix(entry.By, "intake:"); ok && entry.Action == "revoke" && entry.Outcome == "accepted" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no revocation of an intake since %v in %s", since, a.Body)
	}
	return names, nil
}

var lastEvent = regexp.MustCompile(`(?m)^rescind_intake_last_event_timestamp_seconds{intake="events"} (.+)$`)

// hasHeardSince waits until the poller has taken an event.
func (p *product) hasHeardSince(t *testing.T, since time.Time) {
	t.Helper()
	eventually.Succeeds(t, "the poller has taken the event", func() error {
		res, err := http.Get(p.ControlURLs[0] + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		found := lastEvent.FindSubmatch(text)
		if found == nil {
			return errors.New("there is no metric of the last event")
		}
		if at, err := strconv.ParseFloat(string(found[1]), 64); err != nil || at < float64(since.UnixMilli())/1000 {
			return fmt.Errorf("the last event was at %s, want one since %v", found[1], since)
		}
		return nil
	})
}

// Each act at a real Keycloak ends the tokens that it is about, at a real Envoy.
func TestKeycloakActsAreDenied(t *testing.T) {
	needIssuers(t)
	addrs := freeport.Addrs(t, 2)
	addr, signals := addrs[0], addrs[1]
	k := startKeycloak(t)
	k.makeRealm("http://"+addr+"/intake/logout/logout", "http://"+signals+"/*")
	p := startProduct(t, k.issuer(), pushedTo(addr)+k.intakes(t))
	measured := figures{}
	for round := range rounds() {
		for i, a := range acts {
			t.Run(fmt.Sprintf("%s %d", a.name, round+1), func(t *testing.T) {
				begun := time.Now()
				s, err := k.prepare(a, fmt.Sprintf("user-%d-%d", round, i))
				must(t, err)
				p.accepts(t, s.token)
				if a.newKey {
					p.hasHeardSince(t, begun)
					nextSecond() // the poller reads the keys after the event of the new key
				}
				if long {
					time.Sleep(rand.N(time.Second)) // at a random moment between two polls
				}
				since := time.Now()
				measured.add(a.name, p.ends(t, s.token, func() error { return a.do(k, s) }))
				eventually.Succeeds(t, "the admin event is listed", func() error { return k.hasEvent(a.event, since) })
				if names, err := p.by(since); slices.Contains(names, "logout") != (a.logout) {
					t.Errorf("revocations of %v (%v), want one of a back-channel logout: %t", names, err, a.logout)
				}
				if a.after != nil {
					p.comesBack(t, k, a, s)
				}
				if a.wide {
					nextSecond()
				}
			})
		}
	}
	t.Run("shared signals, pushed", func(t *testing.T) { sharedSignals(t, k, "ssf_push", signals, measured) })
	t.Run("shared signals, polled", func(t *testing.T) { sharedSignals(t, k, "ssf_poll", "", measured) })
	t.Log(measured)
	t.Run("while the control endpoint is down", func(t *testing.T) { p.controlIsDown(t, k) })
	if long {
		t.Run("before Keycloak is killed", func(t *testing.T) { p.keycloakIsKilled(t, k) })
	}
}

// controlIsDown does an act that nobody hears of at first. Keycloak sends a logout
// once and never again, so its events alone tell of the act later.
func (p *product) controlIsDown(t *testing.T, k *keycloak) {
	a := acts[1]
	s, err := k.prepare(a, "user-while-control-is-down")
	must(t, err)
	p.accepts(t, s.token)
	p.Control[0].Kill()
	must(t, a.do(k, s))
	if status, err := p.status(s.token); err != nil || status != http.StatusOK {
		t.Errorf("before the control endpoint is back: got %d, %v, want 200", status, err)
	}
	p.controlStarts(t)
	since := time.Now()
	t.Logf("denied %v after the start of the control endpoint", p.denied(t, s.token).Sub(since).Round(time.Millisecond))
}

func (p *product) controlStarts(t *testing.T) {
	t.Helper()
	must(t, p.StartControl(t.Context(), 0))
	must(t, p.WaitControl(t.Context(), 0))
}

// keycloakIsKilled does an act that Keycloak tells nobody of before it is killed.
func (p *product) keycloakIsKilled(t *testing.T, k *keycloak) {
	s, err := k.prepare(act{}, "user-before-the-kill")
	must(t, err)
	p.accepts(t, s.token)
	must(t, p.Control[0].Pause())
	must(t, k.realm(http.MethodPut, "/users/"+s.id, object{"enabled": false}, nil))
	k.kill()
	must(t, p.Control[0].Resume())
	eventually.Succeeds(t, "the control endpoint shows that Keycloak does not answer", func() error {
		var list struct {
			Items []struct{ Name, Error string }
		}
		a, err := p.Admin(t.Context(), http.MethodGet, "/v1/intakes", nil, &list)
		if err != nil || a.Status != http.StatusOK {
			return fmt.Errorf("/v1/intakes answers %d %s: %w", a.Status, a.Body, err)
		}
		if !slices.ContainsFunc(list.Items, func(i struct{ Name, Error string }) bool { return i.Name == "events" && i.Error != "" }) {
			return fmt.Errorf("no error in %s", a.Body)
		}
		return nil
	})
	k.start()
	since := time.Now()
	t.Logf("denied %v after the start of Keycloak", p.denied(t, s.token).Sub(since).Round(time.Millisecond))
}

// nextSecond waits until the next second begins, because a cut-off reaches the
// tokens of its whole second.
func nextSecond() {
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1010 * time.Millisecond)))
}

// comesBack demands that a user who may log in again gets a token that is
// accepted, and that the old token stays denied.
func (p *product) comesBack(t *testing.T, k *keycloak, a act, s *subject) {
	t.Helper()
	must(t, a.after(k, s))
	var again tokens
	eventually.Succeeds(t, "a new login is accepted", func() (err error) {
		if again, err = k.login(s.user, s.client, ""); err != nil {
			return err
		}
		status, err := p.status(again.Access)
		if err == nil && status != http.StatusOK {
			err = errors.New("a new token is denied")
		}
		return err
	})
	if status, err := p.status(s.token); err != nil || status != http.StatusUnauthorized {
		t.Errorf("the old token after the new login: got %d, %v, want 401", status, err)
	}
}

// figures are the times from an act to the denial, by act and intake.
type figures map[string][]time.Duration

func (f figures) add(act string, e end) {
	f[act+" | "+e.intake] = append(f[act+" | "+e.intake], e.took)
}

// String returns the rows of a table: act, intake, median, longest.
func (f figures) String() string {
	var text strings.Builder
	text.WriteString("\n| act | intake | median | longest | of |\n|---|---|---|---|---|\n")
	for _, row := range slices.Sorted(maps.Keys(f)) {
		took := slices.Sorted(slices.Values(f[row]))
		fmt.Fprintf(&text, "| %s | %v | %v | %d |\n", row, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
	}
	return text.String()
}

// A logout at a real oidc-provider ends the tokens of the user, because its access
// tokens name no session.
func TestProviderLogoutIsDenied(t *testing.T) {
	needIssuers(t)
	addr := freeport.Addrs(t, 1)[0]
	issuer := startProvider(t, "http://"+addr+"/intake/logout/logout")
	p := startProduct(t, issuer.url, pushedTo(addr)+logoutIntake(issuer.url)+"    sid_in_tokens: false\n")
	measured := figures{}
	for round := range rounds() {
		b, token, err := issuer.login(fmt.Sprint("carla-", round))
		must(t, err)
		_, other, err := issuer.login(fmt.Sprint("dave-", round))
		must(t, err)
		p.accepts(t, token)
		p.accepts(t, other)
		measured.add("user logs out of oidc-provider", p.ends(t, token, func() error { return issuer.logout(b) }))
		if status, err := p.status(other); err != nil || status != http.StatusOK {
			t.Errorf("another user's token: got %d, %v, want 200", status, err)
		}
	}
	t.Log(measured)
}
