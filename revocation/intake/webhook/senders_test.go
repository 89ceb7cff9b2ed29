package webhook

import (
	"os"
	"strings"
	"testing"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
)

// The mappings of INTAKES.md for senders that have a format of their own, and a
// message of each of them.

func message(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestOktaEventHook(t *testing.T) {
	user := func(act Act, types ...string) Rule {
		return Rule{When: []Condition{when("/eventType", types...), when("/outcome/result", "SUCCESS"), when("/target/0/type", "User")}, Issuer: issuer, Names: named("sub", "/target/0/alternateId"), Act: act}
	}
	r := newRig(t, Options{
		Sender: bearer, Shake: Okta, Each: at("/data/events"), ID: at("/uuid"), Type: at("/eventType"), Time: at("/published"),
		Rules: []Rule{
			user(Block, "user.lifecycle.deactivate", "user.lifecycle.suspend"),
			user(Unblock, "user.lifecycle.reactivate", "user.lifecycle.activate", "user.lifecycle.unsuspend"),
			user(Revoke, "user.account.reset_password", "user.lifecycle.delete.initiated"),
		},
	}, nil, intake.Subject, intake.Block)
	w := r.send("GET", "/events", "", "X-Okta-Verification-Challenge", `my "challenge"`)
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"verification":"my \"challenge\""}` || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("handshake: got %d %s %s, want 200 and the challenge as JSON", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	r.post(message(t, "okta.json"), 204)
	r.want("sub=jane.doe@example.com blocked", "sub=john.doe@example.com until 2026-11-24T06:59:11Z")
	r.wantCount(intake.Ignored, 1)
	r.post(strings.NewReplacer("user.lifecycle.deactivate", "user.lifecycle.reactivate", "b5a188b9", "c6b299ca", "06:59:09", "06:59:40").Replace(message(t, "okta.json")), 204)
	r.want("sub=john.doe@example.com until 2026-11-24T06:59:11Z")
}

func TestAuth0LogStream(t *testing.T) {
	r := newRig(t, Options{
		Sender: bearer, ID: at("/log_id"), Type: at("/data/type"), Time: at("/data/date"),
		Rules: []Rule{{When: []Condition{when("/data/type", "sdu", "scp", "slo", "srrt", "limit_wc")}, Issuer: issuer, Names: named("sub", "/data/user_id"), Act: Revoke}},
	}, nil)
	w := r.send("POST", "/events", message(t, "auth0.json"), "Authorization", secret) // Auth0 sends the value without a scheme
	if w.Code != 204 {
		t.Errorf("got the status %d, want 204", w.Code)
	}
	r.want("sub=auth0|5f0fb0d2 until 2026-11-24T06:58:02Z", "sub=google-oauth2|1042 until 2026-11-24T06:58:03Z")
	r.wantCount(intake.Ignored, 1)
}

func TestMicrosoftGraph(t *testing.T) {
	r := newRig(t, Options{
		Sender: Sender{State: &State{at("/clientState"), bearer.Tokens[1]}}, Shake: Graph, Each: at("/value"), Type: at("/changeType"),
		Rules: []Rule{{When: []Condition{when("/changeType", "deleted"), when("/resourceData/@odata.type", "#Microsoft.Graph.User")}, Issuer: issuer, Names: named(intake.NameExternal, "/resourceData/id"), Act: Revoke}},
	}, intake.Map{intake.NameExternal: jwt.MemberName("oid")})
	w := r.send("POST", "/events?validationToken=Validation%3A+Testing+client+application+%3Cb%3E", "")
	if w.Code != 200 || w.Body.String() != "Validation: Testing client application <b>" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("handshake: got %d %s %s, want 200 and the token as plain text", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	if w := r.send("POST", "/events", message(t, "graph.json")); w.Code != 401 {
		t.Errorf("a wrong clientState: got the status %d, want 401", w.Code)
	}
	r.want()
	// One event has the state, the other one is a stranger's.
	if w := r.send("POST", "/events", strings.Replace(message(t, "graph.json"), "wrong state", secret, 1), "Content-Type", "application/json; charset=utf-8"); w.Code != 204 {
		t.Errorf("got the status %d, want 204", w.Code)
	}
	r.want("oid=8a1b2c3d-0000-4000-8000-000000000001 until 2026-11-24T07:00:01Z")
}

func TestSCIMDeactivation(t *testing.T) {
	o := Options{Sender: bearer, SCIM: true, Rules: []Rule{
		{When: []Condition{when("/op", "replace", "add"), when("/path", "active"), when("/value", "false", "False")}, Issuer: issuer, Names: named(intake.NameExternal, "/id"), Act: Block},
		{When: []Condition{when("/op", "replace", "add"), when("/path", "active"), when("/value", "true", "True")}, Issuer: issuer, Names: named(intake.NameExternal, "/id"), Act: Unblock},
		{When: []Condition{when("/op", "delete")}, Issuer: issuer, Names: named(intake.NameExternal, "/id"), Act: Block},
	}}
	r := newRig(t, o, intake.Map{intake.NameExternal: jwt.MemberName("employee")}, intake.Subject, intake.Block)
	patch := func(operations string, want int) {
		t.Helper()
		body := `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":` + operations + `}`
		if w := r.send("PATCH", "/Users/e-17", body, "Authorization", "Bearer "+secret, "Content-Type", "application/scim+json"); w.Code != want {
			t.Errorf("%s: got the status %d and %s, want %d", operations, w.Code, w.Body, want)
		}
	}
	for _, off := range []string{
		`[{"op":"replace","value":{"active":false}}]`,        // Okta
		`[{"op":"Replace","path":"active","value":"False"}]`, // Entra
		`[{"op":"add","path":"active","value":false}]`,       // RFC 7644
		`[{"op":"replace","path":"title","value":"x"},{"op":"replace","value":{"Active":false,"title":"y"}}]`,
	} {
		patch(off, 204)
		r.want("employee=e-17 blocked")
		r.clock.Advance(1000000000)
		patch(`[{"op":"replace","path":"active","value":true}]`, 204) // the same content each time
		r.want()
		r.clock.Advance(1000000000)
	}
	patch(`{}`, 400)
	if w := r.send("DELETE", "/Users/e-17", "", "Authorization", "Bearer "+secret); w.Code != 204 {
		t.Errorf("DELETE: got the status %d, want 204", w.Code)
	}
	r.want("employee=e-17 blocked")
	for _, c := range []struct {
		method, path string
		want         int
	}{{"GET", "/Users/e-17", 405}, {"PUT", "/Users/e-17", 405}, {"PATCH", "/Users/", 404}, {"PATCH", "/Users", 404}} {
		if w := r.send(c.method, c.path, "", "Authorization", "Bearer "+secret); w.Code != c.want {
			t.Errorf("%s %s: got the status %d, want %d", c.method, c.path, w.Code, c.want)
		}
	}
	if w := r.send("PATCH", "/Users/e-18", `{"Operations":[{"op":"replace","value":{"active":false}}]}`); w.Code != 401 {
		t.Errorf("without a token: got the status %d, want 401", w.Code)
	}
}
