package gate

import (
	"testing"

	"rescind/authz"
)

func TestChallenge(t *testing.T) {
	full := authz.Challenge{Realm: "orders", ResourceMetadata: "https://api.example/.well-known/oauth-protected-resource"}
	scope, acr := full, full
	scope.Scope, acr.ACRValues = "a b", "gold platinum"
	const metadata = `, resource_metadata="https://api.example/.well-known/oauth-protected-resource"`
	for _, c := range []struct {
		reason    authz.Reason
		challenge authz.Challenge
		want      string
	}{
		{authz.NoToken, authz.Challenge{}, `Bearer realm="rescind"`},
		{authz.NoToken, full, `Bearer realm="orders"` + metadata},
		{authz.Expired, full, `Bearer realm="orders", error="invalid_token", error_description="the token has expired"` + metadata},
		{authz.InsufficientScope, scope, `Bearer realm="orders", error="insufficient_scope", error_description="the token's scope does not suffice", scope="a b"` + metadata},
		{authz.StepUp, acr, `Bearer realm="orders", error="insufficient_user_authentication", error_description="the token comes from a login that is not strong enough for this", acr_values="gold platinum"` + metadata},
		{authz.Internal, full, `Bearer realm="orders"` + metadata},
	} {
		d := DenialOf(&authz.Decision{Reason: c.reason, Challenge: c.challenge})
		got := ""
		for _, h := range d.Headers {
			if h.Name == "www-authenticate" {
				got = h.Value
			}
		}
		if got != c.want {
			t.Errorf("%s with %+v:\ngot  %s\nwant %s", c.reason, c.challenge, got, c.want)
		}
	}
	if d := DenialOf(&authz.Decision{Reason: authz.StepUp}); d.Status != 401 || d.Code != 16 {
		t.Errorf("step_up: got HTTP %d and code %d, want 401 and 16", d.Status, d.Code)
	}
}
