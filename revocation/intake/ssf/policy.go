package ssf

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rescind/revocation/intake/secevent"
)

// Action is the effect of an event of one type.
type Action string

// The actions.
const (
	Ignore      Action = "ignore"       // acknowledged
	Log         Action = "log"          // acknowledged, with a line in the log
	Revoke      Action = "revoke"       // the tokens of the subject until the event
	RevokeToken Action = "revoke_token" // as revoke, if the subject is one token; else as ignore
	Block       Action = "block"        // as revoke, and the tokens of later logins, until an unblock
	Unblock     Action = "unblock"      // the end of a block; tokens of before stay revoked
)

// Actions are all actions.
var Actions = []Action{Ignore, Log, Revoke, RevokeToken, Block, Unblock}

const (
	caep  = "https://schemas.openid.net/secevent/caep/event-type/"
	risc  = "https://schemas.openid.net/secevent/risc/event-type/"
	oauth = "https://schemas.openid.net/secevent/oauth/event-type/"
	frame = "https://schemas.openid.net/secevent/ssf/event-type/"
)

// Events of a stream itself.
const (
	verification     = frame + "verification"
	riscVerification = risc + "verification" // of Google
	streamUpdated    = frame + "stream-updated"
)

// kind is a type of events that this package knows.
type kind struct {
	uri    string
	action Action
	// unless says why an event of the type is no reason to revoke. Nil: every
	// event is one.
	unless func(members map[string]any) string
}

var kinds = []kind{
	{caep + "session-revoked", Revoke, nil},
	{caep + "token-claims-change", RevokeToken, nil},
	{caep + "credential-change", Revoke, credentialStays},
	{caep + "assurance-level-change", Ignore, differs("change_direction", "decrease")},
	{caep + "device-compliance-change", Revoke, differs("current_status", "not-compliant")},
	{caep + "risk-level-change", Ignore, riskStays},
	{caep + "session-established", Ignore, nil},
	{caep + "session-presented", Ignore, nil},

	{risc + "account-disabled", Block, nil},
	{risc + "account-purged", Block, nil},
	{risc + "account-enabled", Unblock, nil},
	{risc + "sessions-revoked", Revoke, nil},
	{risc + "account-credential-change-required", Revoke, nil},
	{risc + "credential-compromise", Revoke, nil},
	{risc + "identifier-changed", Log, nil},
	{risc + "identifier-recycled", Revoke, nil},
	{risc + "opt-in", Log, nil},
	{risc + "opt-out-initiated", Log, nil},
	{risc + "opt-out-cancelled", Log, nil},
	{risc + "opt-out-effective", Log, nil},
	{risc + "recovery-activated", Log, nil},
	{risc + "recovery-information-changed", Log, nil},

	{oauth + "tokens-revoked", Revoke, nil},
	{oauth + "token-revoked", RevokeToken, nil},
}

// shortName returns the last step of a URI that this package knows, and every
// other URI as it is.
func shortName(uri string) string {
	if slices.ContainsFunc(kinds, func(k kind) bool { return k.uri == uri }) {
		return uri[strings.LastIndexByte(uri, '/')+1:]
	}
	return uri
}

// EventNames returns the short names of the types that have an action.
func EventNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, shortName(k.uri))
	}
	return names
}

// Requested returns the URIs of the types that a stream should deliver: those that
// are not ignored by default.
func Requested() []string {
	var uris []string
	for _, k := range kinds {
		if k.action != Ignore {
			uris = append(uris, k.uri)
		}
	}
	return uris
}

// EventType returns the URI of a type of events, which is named by its URI or by
// its short name, such as session-revoked.
func EventType(name string) (uri string, err error) {
	for _, k := range kinds {
		if name == shortName(k.uri) {
			return k.uri, nil
		}
	}
	switch {
	case name == verification || name == riscVerification || name == streamUpdated:
		return "", fmt.Errorf("%s is about the stream itself and has no action", name)
	case !strings.Contains(name, ":") || len(name) > secevent.MaxID:
		return "", fmt.Errorf("%q is neither the URI of an event nor one of %s", name, strings.Join(EventNames(), ", "))
	}
	return name, nil
}

// Policy names the action of events, by the URI of their type. It has an action for
// every type that this package knows. An event of another type is ignored.
type Policy map[string]Action

// DefaultPolicy returns the actions that events have unless the configuration
// names others. Without the power to block, an event that would block revokes.
func DefaultPolicy(mayBlock bool) Policy {
	p := Policy{}
	for _, k := range kinds {
		p[k.uri] = k.action
		if k.action == Block && !mayBlock {
			p[k.uri] = Revoke
		}
	}
	return p
}

// With returns the policy with other actions for some types.
func (p Policy) With(others map[string]Action) Policy {
	all := maps.Clone(p)
	maps.Copy(all, others)
	return all
}

// action returns the action of one event. note says why the event does nothing.
func (p Policy) action(e *secevent.Event) (a Action, note string) {
	a, known := p[e.Type]
	switch {
	case !known:
		return Ignore, "the type of the event is not known here"
	case a == Ignore || a == Log:
		return a, fmt.Sprintf("events says %s for this type", a)
	case a == Unblock:
		return a, ""
	case a == RevokeToken && (e.Subject == nil || e.Subject.Format != secevent.TokenID && !hasToken(e.Subject)):
		return Ignore, "the subject is not an access token, and events says revoke_token for this type"
	}
	for _, k := range kinds {
		if k.uri == e.Type && k.unless != nil {
			if note = k.unless(e.Members); note != "" {
				return Ignore, note
			}
		}
	}
	return a, ""
}

func hasToken(s *secevent.Subject) bool {
	for _, part := range s.Members {
		if part.Format == secevent.TokenID {
			return true
		}
	}
	return false
}

// credentialStays says why a credential-change is no reason to revoke: a
// credential was added, or one other than the password was changed. A change that
// is not known is a reason to revoke.
func credentialStays(members map[string]any) string {
	switch change := word(members["change_type"]); {
	case change == "create":
		return "a credential was added"
	case change == "update" && word(members["credential_type"]) != "password":
		return "a credential other than the password was changed"
	}
	return ""
}

func differs(member, wanted string) func(map[string]any) string {
	return func(members map[string]any) string {
		if word(members[member]) != wanted {
			return fmt.Sprintf("%s is not %s", member, wanted)
		}
		return ""
	}
}

func riskStays(members map[string]any) string {
	if principal := word(members["principal"]); principal != "user" && principal != "session" {
		return "principal is neither USER nor SESSION"
	}
	return differs("current_level", "high")(members)
}

// word returns a text in lower case, and "" for every other value.
func word(v any) string {
	s, _ := v.(string)
	return strings.ToLower(s)
}
