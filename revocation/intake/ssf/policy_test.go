package ssf_test

import (
	"fmt"
	"strings"
	"testing"

	"rescind/revocation/intake"
	"rescind/revocation/intake/ssf"
)

const (
	caep  = "https://schemas.openid.net/secevent/caep/event-type/"
	risc  = "https://schemas.openid.net/secevent/risc/event-type/"
	oauth = "https://schemas.openid.net/secevent/oauth/event-type/"
)

type m = map[string]any

func mayBlock(door *intake.Options, _ *ssf.Options) {
	door.May = []intake.Power{intake.Token, intake.Session, intake.Subject, intake.Block}
}

// about returns the revocations in force that are about a user or a session.
func (r *rig) about(name string) string {
	var found []string
	for _, text := range r.inForce() {
		if _, rest, _ := strings.Cut(text, "="); rest == name || strings.HasPrefix(rest, name+" ") {
			found = append(found, text)
		}
	}
	return strings.ReplaceAll(strings.Join(found, ", "), name, "U")
}

// TestPolicyOfEveryEvent sends one event about a user U for each row.
func TestPolicyOfEveryEvent(t *testing.T) {
	const until = "sub=U before 1700000001"
	const both = until + ", sub=U block"
	plain, blocking := start(t), start(t, mayBlock)
	opted := start(t, func(_ *intake.Options, o *ssf.Options) {
		o.Events = map[string]ssf.Action{
			caep + "token-claims-change": ssf.Revoke, caep + "assurance-level-change": ssf.Revoke, caep + "risk-level-change": ssf.Revoke,
			caep + "session-revoked": ssf.Ignore, "https://vendor.example/left": ssf.Revoke, risc + "account-purged": ssf.Log,
		}
	})
	for i, c := range []struct {
		name  string
		on    *rig
		event string
		says  m
		want  string
	}{
		{"the end of all sessions", plain, caep + "session-revoked", m{}, until},
		{"… that the configuration ignores", opted, caep + "session-revoked", m{}, ""},
		{"new claims", plain, caep + "token-claims-change", m{"claims": m{"role": "ro"}}, ""},
		{"new claims, opted in", opted, caep + "token-claims-change", m{"claims": m{"role": "ro"}}, until},
		{"a credential revoked", plain, caep + "credential-change", m{"change_type": "revoke", "credential_type": "fido2-roaming"}, until},
		{"a credential deleted", plain, caep + "credential-change", m{"change_type": "delete", "credential_type": "verifiable-credential"}, until},
		{"a password changed", plain, caep + "credential-change", m{"change_type": "update", "credential_type": "password"}, until},
		{"a password changed, as Okta says it", plain, caep + "credential-change", m{"change_type": "revoke", "credential_type": "PASSWORD"}, until},
		{"another credential changed", plain, caep + "credential-change", m{"change_type": "update", "credential_type": "app"}, ""},
		{"a credential added", plain, caep + "credential-change", m{"change_type": "create", "credential_type": "password"}, ""},
		{"an unknown change of a credential", plain, caep + "credential-change", m{"credential_type": "password"}, until},
		{"assurance down", plain, caep + "assurance-level-change", m{"change_direction": "decrease"}, ""},
		{"assurance down, opted in", opted, caep + "assurance-level-change", m{"change_direction": "decrease"}, until},
		{"assurance up, opted in", opted, caep + "assurance-level-change", m{"change_direction": "increase"}, ""},
		{"a device not compliant", plain, caep + "device-compliance-change", m{"current_status": "not-compliant"}, until},
		{"a device compliant", plain, caep + "device-compliance-change", m{"current_status": "compliant"}, ""},
		{"high risk", plain, caep + "risk-level-change", m{"principal": "USER", "current_level": "HIGH"}, ""},
		{"high risk, opted in", opted, caep + "risk-level-change", m{"principal": "USER", "current_level": "HIGH"}, until},
		{"medium risk, opted in", opted, caep + "risk-level-change", m{"principal": "USER", "current_level": "MEDIUM"}, ""},
		{"high risk of a device, opted in", opted, caep + "risk-level-change", m{"principal": "DEVICE", "current_level": "HIGH"}, ""},
		{"a session begun", plain, caep + "session-established", m{}, ""},
		{"a session seen", plain, caep + "session-presented", m{}, ""},
		{"an account disabled", blocking, risc + "account-disabled", m{"reason": "hijacking"}, both},
		{"an account disabled, without the power to block", plain, risc + "account-disabled", m{"reason": "hijacking"}, until},
		{"an account purged", blocking, risc + "account-purged", m{}, both},
		{"an account purged that the configuration logs", opted, risc + "account-purged", m{}, ""},
		{"an account enabled", blocking, risc + "account-enabled", m{}, ""},
		{"sessions revoked, as Google says it", plain, risc + "sessions-revoked", m{}, until},
		{"credentials to change", plain, risc + "account-credential-change-required", m{}, until},
		{"a credential in wrong hands", plain, risc + "credential-compromise", m{"credential_type": "password"}, until},
		{"an identifier changed", plain, risc + "identifier-changed", m{"new-value": "x"}, ""},
		{"an identifier recycled", plain, risc + "identifier-recycled", m{}, until},
		{"opted out", plain, risc + "opt-out-effective", m{}, ""},
		{"a recovery", plain, risc + "recovery-activated", m{}, ""},
		{"tokens revoked", plain, oauth + "tokens-revoked", m{}, until},
		{"a refresh token revoked", plain, oauth + "token-revoked", m{}, ""},
		{"an unknown event", plain, "https://vendor.example/left", m{}, ""},
		{"an unknown event, opted in", opted, "https://vendor.example/left", m{}, until},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := fmt.Sprintf("u%d", i)
			c.says["event_timestamp"] = 1_700_000_000
			wantAccepted(t, c.on.push(c.event, c.says, c.on.tx.User(user), nil))
			if got := c.on.about(user); got != c.want {
				t.Errorf("got in force %q, want %q", got, c.want)
			}
		})
	}
}

// TestPolicyWithoutThePowerToBlock holds that an event that would block is carried
// out as far as the entry allows, and is not refused.
func TestPolicyWithoutThePowerToBlock(t *testing.T) {
	r := start(t)
	wantAccepted(t, r.push(risc+"account-disabled", at(1_700_000_000), r.tx.User("alice"), nil))
	r.wantInForce("sub=alice before 1700000001")
	if got := r.count(intake.Refused); got != 0 {
		t.Errorf("got %d refused events, want none", got)
	}
}

func TestPolicyNewClaimsRevokeTheTokenThatCarriesOldOnes(t *testing.T) {
	r := start(t)
	token := m{"format": "jwt_id", "iss": r.tx.Issuer(), "jti": "j1"}
	wantAccepted(t, r.push(caep+"token-claims-change", at(1_700_000_000), token, nil))
	wantAccepted(t, r.push(caep+"token-claims-change", at(1_700_000_000), m{"format": "complex", "user": r.tx.User("alice"), "token": m{"format": "jwt_id", "iss": r.tx.Issuer(), "jti": "j2"}}, nil))
	r.wantInForce("jti=j1", "jti=j2")
}

// TestPolicyOfABlock holds that an account that is enabled again brings back no
// token of before, and that a repetition of the block does not come back.
func TestPolicyOfABlock(t *testing.T) {
	r := start(t, mayBlock)
	_, disabled := r.tx.Mint(risc+"account-disabled", at(1_700_000_000), r.tx.User("alice"), nil)
	_, enabled := r.tx.Mint(risc+"account-enabled", at(1_700_000_010), r.tx.User("alice"), nil)
	wantAccepted(t, r.pushToken(disabled))
	r.wantInForce("sub=alice before 1700000001", "sub=alice block")
	wantAccepted(t, r.pushToken(enabled))
	r.wantInForce("sub=alice before 1700000001")
	wantAccepted(t, r.pushToken(disabled))
	wantAccepted(t, r.pushToken(enabled))
	r.wantInForce("sub=alice before 1700000001")
	wantAccepted(t, r.push(risc+"account-disabled", at(1_700_000_020), r.tx.User("alice"), nil))
	r.wantInForce("sub=alice before 1700000001", "sub=alice before 1700000021", "sub=alice block")
}

// TestPolicyOfAliases holds that several names of an event are one event, and that
// names which contradict each other are refused.
func TestPolicyOfAliases(t *testing.T) {
	r := start(t, mayBlock)
	events := func(names ...string) m {
		all := m{}
		for _, name := range names {
			all[name] = at(1_700_000_000)
		}
		return m{"events": all}
	}
	wantAccepted(t, r.push("", nil, r.tx.User("alice"), events(caep+"session-revoked", risc+"sessions-revoked", "https://vendor.example/out")))
	r.wantInForce("sub=alice before 1700000001")
	wantFault(t, r.push("", nil, r.tx.User("bob"), events(risc+"account-disabled", risc+"account-enabled")), "invalid_request")
	r.wantInForce("sub=alice before 1700000001")
}

func TestPolicyTimeOfAnEvent(t *testing.T) {
	r := start(t)
	for i, c := range []struct {
		name   string
		says   m
		claims m
		want   string
	}{
		{"in seconds", m{"event_timestamp": 1_700_000_000}, m{"iat": 1_700_000_050}, "1700000001"},
		{"in milliseconds, as Okta says it", m{"event_timestamp": 1_700_000_000_250}, m{"iat": 1_700_000_050}, "1700000001"},
		{"toe", m{}, m{"iat": 1_700_000_050, "toe": 1_700_000_020}, "1700000021"},
		{"event_timestamp before toe", m{"event_timestamp": 1_700_000_000}, m{"iat": 1_700_000_050, "toe": 1_700_000_020}, "1700000001"},
		{"iat", m{}, m{"iat": 1_700_000_050}, "1700000051"},
		{"a text", m{"event_timestamp": "1700000000"}, m{"iat": 1_700_000_050}, "1700000051"},
		{"zero", m{"event_timestamp": 0}, m{"iat": 1_700_000_050}, "1700000051"},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := fmt.Sprintf("u%d", i)
			wantAccepted(t, r.push(caep+"session-revoked", c.says, r.tx.User(user), c.claims))
			if got := r.about(user); got != "sub=U before "+c.want {
				t.Errorf("got in force %q, want it before %s", got, c.want)
			}
		})
	}
	t.Run("in the future", func(t *testing.T) {
		wantAccepted(t, r.push(caep+"session-revoked", at(4_000_000_000), r.tx.User("later"), nil))
		if got := r.about("later"); got == "" || strings.HasPrefix(got, "sub=U before 4") {
			t.Errorf("got in force %q, want it before the time of receipt", got)
		}
	})
}

func TestEventTypeOfANameInTheConfiguration(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"session-revoked", caep + "session-revoked"},
		{"sessions-revoked", risc + "sessions-revoked"},
		{"token-revoked", oauth + "token-revoked"},
		{risc + "account-disabled", risc + "account-disabled"},
		{"https://vendor.example/x", "https://vendor.example/x"},
		{"session_revoked", ""},
		{"", ""},
		{"verification", ""},
		{"https://schemas.openid.net/secevent/ssf/event-type/stream-updated", ""},
		{"https://" + strings.Repeat("x", 256), ""},
	} {
		if got, err := ssf.EventType(c.name); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("EventType(%q): got %q and the error %v, want %q", c.name, got, err, c.want)
		}
	}
}
