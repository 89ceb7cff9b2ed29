package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// call is a request to a hook.
type call struct {
	at     time.Time
	header http.Header
	body   []byte
}

// hook is a server that the control endpoint calls, for example a webhook.
type hook struct {
	*httptest.Server
	calls chan call
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{calls: make(chan call, 1000)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, _ := io.ReadAll(r.Body)
		h.calls <- call{at, r.Header, body}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-h.calls:
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("wanted a call of the webhook within 20s, none came")
		return call{}
	}
}

const hookSecret = "s3cret-of-the-webhook"

// alerting returns the part of a control configuration that names a webhook.
func alerting(t *testing.T, h *hook, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "webhook.secret")
	if err := os.WriteFile(file, []byte(hookSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("alerts:\n  webhooks: [{name: hook, url: %q, secret_file: %q}]\n%s", h.URL+"/alerts", file, more)
}

// reconfigured restarts the control endpoint with more in its configuration.
func reconfigured(t *testing.T, s *envoytest.Stack, config string) {
	t.Helper()
	s.ControlConfig = config
	s.Control[0].Stop()
	if err := s.StartControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

type raisedAlert struct {
	ID, Detector, Key, Summary, Issuer, Subject, Session string
	TokenID                                              string `json:"token_id"`
	RevocationID                                         string `json:"revocation_id"`
	Count                                                int
	Replicas, Networks                                   []string
}

// alertOf checks the signature of a call and returns the alert in it.
func alertOf(t *testing.T, c call) raisedAlert {
	t.Helper()
	at := c.header.Get("Rescind-Timestamp")
	mac := hmac.New(sha256.New, []byte(hookSecret))
	fmt.Fprintf(mac, "%s.%s", at, c.body)
	if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); c.header.Get("Rescind-Signature") != want {
		t.Errorf("Rescind-Signature: got %q, want %q", c.header.Get("Rescind-Signature"), want)
	}
	var m struct {
		ID    string
		Alert raisedAlert
	}
	if err := json.Unmarshal(c.body, &m); err != nil || m.ID != c.header.Get("Rescind-Id") || m.ID != m.Alert.ID || m.ID == "" {
		t.Fatalf("wanted an alert whose id is that of the header Rescind-Id, got %s with %v, %v", c.body, c.header, err)
	}
	return m.Alert
}

// The figure: from the use of a revoked token to the alert at a webhook.
func TestARevokedTokenThatIsUsedIsHeardOf(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	s := start(t, envoytest.Options{ControlConfig: alerting(t, h, "")})
	var took []time.Duration
	for i := range 11 {
		subject := fmt.Sprint("user-", i)
		token := login(t, s, subject)
		wantStatus(t, s, "before", token, 200)
		r := revoked(t, s, map[string]any{"claims": map[string]any{"jti": claim(t, token, "jti")}})
		began := time.Now()
		wantStatus(t, s, "the revoked token", token, 401)
		c := h.next(t)
		took = append(took, c.at.Sub(began))
		a := alertOf(t, c)
		if a.Detector != "revoked_token_used" || a.Subject != subject || a.TokenID != claim(t, token, "jti") || a.Session != claim(t, token, "sid") ||
			a.Issuer != s.Issuer.URL() || a.RevocationID != r.ID || a.Count != 1 || len(a.Replicas) != 1 {
			t.Errorf("wanted one use of the token of %s, revoked by %s, got %+v", subject, r.ID, a)
		}
		if strings.Contains(string(c.body), token[:30]) {
			t.Errorf("wanted an alert without the token, got %s", c.body)
		}
	}
	slices.Sort(took)
	t.Logf("from the request to the webhook: median %v, longest %v of %d", took[len(took)/2], took[len(took)-1], len(took))
	var list struct{ Items []raisedAlert }
	if a, err := s.Admin(t.Context(), http.MethodGet, "/v1/alerts?detector=revoked_token_used", nil, &list); err != nil || len(list.Items) != len(took) || list.Items[0].Subject != "user-10" {
		t.Errorf("wanted %d alerts, the newest of user-10, got %d %v %+v", len(took), a.Status, err, list.Items)
	}
}

func commandOf(t *testing.T, s *envoytest.Stack, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rescind, args...)
	cmd.Env = append(os.Environ(), "RESCIND_CONTROL="+s.ControlURLs[0], "RESCIND_TOKEN="+s.Token)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rescind %v: got %v, want exit status 0\n%s", args, err, out)
	}
	return string(out)
}

// A replica keeps its alerts while the control endpoint is away. The control
// endpoint keeps an alert until the webhook has taken it, also through a restart.
func TestAlertsSurvive(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	s := start(t, envoytest.Options{Replicas: 1, ControlConfig: alerting(t, h, "")})
	tokens := []string{login(t, s, "alice"), login(t, s, "bob")}
	for _, token := range tokens {
		revoked(t, s, map[string]any{"claims": map[string]any{"jti": claim(t, token, "jti")}})
	}
	s.Control[0].Kill()
	wantStatus(t, s, "alice's, with the control endpoint gone", tokens[0], 401)
	h.CloseClientConnections()
	if err := s.StartControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if a := alertOf(t, h.next(t)); a.Subject != "alice" {
		t.Errorf("wanted the alert of alice first, got %+v", a)
	}
	s.Control[0].Stop() // writes down that it is told
	if err := s.StartControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, s, "bob's", tokens[1], 401)
	if a := alertOf(t, h.next(t)); a.Subject != "bob" {
		t.Errorf("wanted the alert of bob, and not the one before again, got %+v", a)
	}
	var list struct{ Items []raisedAlert }
	if _, err := s.Admin(t.Context(), http.MethodGet, "/v1/alerts", nil, &list); err != nil || len(list.Items) != 2 || list.Items[1].Subject != "alice" {
		t.Errorf("wanted the alerts of bob and alice, got %+v, %v", list.Items, err)
	}
}

// With an action, the use of a revoked token revokes the token's session.
func TestAnAlertRevokesTheSession(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	s := start(t, envoytest.Options{ControlConfig: alerting(t, h, "  actions: [{detector: revoked_token_used, revoke: session, block: true, dry_run: false}]\n")})
	first, err := s.LoginWithRefresh(t.Context(), "mallory")
	if err != nil {
		t.Fatal(err)
	}
	second := refreshed(t, s, first)
	other := login(t, s, "mallory")
	revoked(t, s, map[string]any{"claims": map[string]any{"jti": claim(t, first.Access, "jti")}})
	wantStatus(t, s, "another token of the session", second.Access, 200)
	wantStatus(t, s, "the revoked token", first.Access, 401)
	becomes(t, s, "another token of the session, once the alert has acted", second.Access, 401)
	nextSecond()
	wantStatus(t, s, "refreshed after that", refreshed(t, s, second).Access, 401)
	wantStatus(t, s, "another session", other, 200)
	out := commandOf(t, s, "list", "--claim", "sid:"+claim(t, first.Access, "sid"))
	if !strings.Contains(out, "alert:revoked_token_used") {
		t.Errorf("list: wanted alert:revoked_token_used as the author, got\n%s", out)
	}
	for range 3 { // a token that an action revoked causes no further action
		wantStatus(t, s, "again", second.Access, 401)
	}
	if list := commandOf(t, s, "list", "-o", "json"); strings.Count(list, `"id"`) != 2 {
		t.Errorf("list: wanted two revocations, got\n%s", list)
	}
}

// The commands ask two replicas behind an Envoy about the traffic that they saw.
func TestWhatReplicasSaw(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{ControlConfig: "limits: {share_of_traffic: 0.5, min_requests: 20}\n"})
	alice, bob := login(t, s, "alice"), login(t, s, "bob")
	for range 30 {
		wantStatus(t, s, "alice's", alice, 200)
	}
	for range 10 {
		wantStatus(t, s, "bob's", bob, 200)
	}
	eventually.Succeeds(t, "two replicas know 30 requests of alice", func() error {
		var a struct {
			Count    int
			Policies map[string]int
			Replicas struct{ Asked, Answered int }
		}
		if _, err := s.Admin(t.Context(), http.MethodGet, "/v1/activity?by=sub&value=alice", nil, &a); err != nil {
			return err
		}
		if a.Count != 30 || a.Replicas.Asked != 2 || a.Replicas.Answered != 2 || a.Policies["default"] != 30 {
			return fmt.Errorf("the activity is %+v", a)
		}
		return nil
	})
	if out := commandOf(t, s, "activity", "--sub", "alice"); !strings.Contains(out, "requests    30") || !strings.Contains(out, "ok       30") {
		t.Errorf("activity: wanted 30 requests, all ok, got\n%s", out)
	}
	revoke := []string{"revoke", "--issuer", s.Issuer.URL(), "--sub"}
	if out := commandOf(t, s, append(revoke, "alice", "--dry-run")...); !strings.Contains(out, "requests  30 of 40 (75.0%)") || !strings.Contains(out, "tokens    1") || !strings.Contains(out, "--yes") {
		t.Errorf("dry run: wanted 30 of 40 requests, 1 token and --yes, got\n%s", out)
	}
	a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations", map[string]any{"issuer": s.Issuer.URL(), "claims": map[string]any{"sub": "alice"}}, nil)
	if err != nil || a.Status != http.StatusConflict {
		t.Errorf("a revocation above the share: wanted 409, got %d %s %v", a.Status, a.Body, err)
	}
	wantStatus(t, s, "alice's, still", alice, 200)
	commandOf(t, s, append(revoke, "bob", "--wait")...) // less than the share
	wantStatus(t, s, "bob's", bob, 401)
	commandOf(t, s, append(revoke, "alice", "--wait", "--yes")...)
	wantStatus(t, s, "alice's", alice, 401)
	if out := commandOf(t, s, "advise"); !strings.Contains(out, "issuer="+s.Issuer.URL()+"  client=demo  policy=default") {
		t.Errorf("advise: wanted a group of the issuer, the client demo and the policy default, got\n%s", out)
	}
	var p struct{ Items []raisedAlert }
	eventually.Succeeds(t, "two alerts are listed", func() error {
		_, err := s.Admin(t.Context(), http.MethodGet, "/v1/alerts", nil, &p)
		if err == nil && len(p.Items) < 2 {
			err = fmt.Errorf("the alerts are %+v", p.Items)
		}
		return err
	})
	if out := commandOf(t, s, "alerts"); !strings.Contains(out, "sub bob") || !strings.Contains(out, "revoked_token_used") {
		t.Errorf("alerts: wanted revoked_token_used of sub bob, got\n%s", out)
	}
}

// Every control node answers for the replicas of all control nodes.
func TestAnyControlNodeKnows(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{ControlNodes: 3})
	token := login(t, s, "alice")
	for range 10 {
		wantStatus(t, s, "before", token, 200)
	}
	revoked(t, s, map[string]any{"claims": map[string]any{"jti": claim(t, token, "jti")}})
	wantStatus(t, s, "revoked", token, 401)
	for i := range 3 {
		eventually.Succeeds(t, envoytest.NodeName(i)+" knows the activity and the alert", func() error {
			var a struct {
				Count    int
				Replicas struct{ Asked, Answered int }
			}
			var list struct{ Items []raisedAlert }
			if _, err := s.AdminAt(t.Context(), i, http.MethodGet, "/v1/activity?by=sub&value=alice", nil, &a); err != nil {
				return err
			}
			if _, err := s.AdminAt(t.Context(), i, http.MethodGet, "/v1/alerts", nil, &list); err != nil {
				return err
			}
			if a.Count != 11 || a.Replicas.Asked != 2 || a.Replicas.Answered != 2 || len(list.Items) != 1 || list.Items[0].Subject != "alice" {
				return fmt.Errorf("the activity is %+v, the alerts are %+v", a, list)
			}
			return nil
		})
	}
}
