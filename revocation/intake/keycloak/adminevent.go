package keycloak

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"rescind/revocation"
	"rescind/revocation/intake"
)

// adminEvent is an admin event of Keycloak. Without details an event has no
// representation.
type adminEvent struct {
	Time      int64   `json:"time"`
	Operation string  `json:"operationType"`
	Resource  string  `json:"resourceType"`
	Path      string  `json:"resourcePath"`
	Body      *string `json:"representation"`
	Error     string  `json:"error"` // the operation has failed

	at   time.Time
	id   string // of the resource
	rest string // of the path, behind the ID
	body representation
}

// representation is the part of a resource that an administrator has sent.
// Members that are not sent are nil.
type representation struct {
	Enabled     *bool  `json:"enabled"`
	NotBefore   *int64 `json:"notBefore"` // in seconds
	ClientID    string `json:"clientId"`
	AdminEvents *bool  `json:"adminEventsEnabled"`
}

const (
	roleClients = "view-clients"
	roleUsers   = "view-users"
)

// adminEvent returns the meaning of an admin event.
func (p *Poller) adminEvent(ctx context.Context, text json.RawMessage) (*intake.Event, error) {
	e, fault := parseAdminEvent(text)
	if fault != nil {
		return p.unreadable(fault), nil
	}
	var err error
	means := &intake.Event{Type: e.kind()}
	if e.Error != "" {
		means.Note = "the operation has failed"
		return means, nil
	}
	switch e.Resource {
	case "USER":
		err = p.userChange(ctx, e, means)
	case "USER_SESSION":
		if e.Operation == "DELETE" {
			p.ends(means, intake.Session, e.at, name{intake.NameSession, e.id})
		}
	case "CLIENT":
		err = p.clientChange(ctx, e, means)
	case "COMPONENT":
		p.stale, means.Note = true, "the keys of the realm are compared"
	case "REALM":
		err = p.realmChange(ctx, e, means)
	}
	if len(means.Acts) == 0 && means.Note == "" {
		means.Note = "the change ends no token"
	}
	return means, err
}

// unreadable returns an event without a meaning. It must not end the polling.
func (p *Poller) unreadable(fault error) *intake.Event {
	p.lost(p.at.read(), "an event of keycloak cannot be read: "+fault.Error())
	return &intake.Event{Type: "unreadable", Note: "the event cannot be read"}
}

func parseAdminEvent(text json.RawMessage) (*adminEvent, error) {
	e := &adminEvent{}
	if err := json.Unmarshal(text, e); err != nil {
		return nil, err
	}
	e.at = time.UnixMilli(max(0, e.Time))
	parts := strings.SplitN(e.Path, "/", 3)
	if e.Resource != "REALM" && len(parts) > 1 {
		e.id = parts[1]
		if len(parts) > 2 {
			e.rest = parts[2]
		}
	}
	if e.Body != nil && json.Unmarshal([]byte(*e.Body), &e.body) != nil {
		e.Body, e.body = nil, representation{}
	}
	return e, nil
}

// kind returns the type of the event for people: "ACTION:USER/logout".
func (e *adminEvent) kind() string {
	kind, action := e.Operation+":"+e.Resource, e.rest
	if e.Resource == "REALM" {
		action = e.Path
	}
	if action, _, _ = strings.Cut(action, "/"); action != "" {
		kind += "/" + action
	}
	return kind
}

// userChange reads an event of a user. A disabled user gets no new token. So the
// cut-off is enough, and nothing is undone when the user is enabled again.
func (p *Poller) userChange(ctx context.Context, e *adminEvent, means *intake.Event) error {
	user := name{intake.NameSub, e.id}
	client, consent := strings.CutPrefix(e.rest, "consents/")
	switch {
	case e.Operation == "UPDATE" && e.rest == "":
		off, err := p.disabled(ctx, e, "/users/", roleUsers)
		if off {
			p.ends(means, intake.Subject, e.at, user)
		}
		return err
	case e.Operation == "DELETE" && e.rest == "",
		e.Operation == "ACTION" && (e.rest == "logout" || e.rest == "reset-password"):
		p.ends(means, intake.Subject, e.at, user)
	case consent && e.Operation != "CREATE":
		p.ends(means, intake.Subject, e.at, user, name{intake.NameClient, client})
	}
	return nil
}

// clientChange reads an event of a client. The event names the client by the ID
// that the realm gives it. Its tokens name it by the ID that it has chosen.
func (p *Poller) clientChange(ctx context.Context, e *adminEvent, means *intake.Event) error {
	switch {
	case e.Operation == "DELETE" && e.rest == "":
		if e.body.ClientID == "" {
			p.lost(p.at.read(), fmt.Sprintf("the client %q was deleted, and without details the event does not name the ID in its tokens", e.id))
			return nil
		}
		p.ends(means, intake.Client, e.at, name{intake.NameClient, e.body.ClientID})
		return nil
	case e.Operation == "UPDATE" && e.rest == "",
		e.Operation == "ACTION" && (e.rest == "client-secret" || e.rest == "push-revocation"):
	default:
		return nil
	}
	if e.Body == nil || e.rest != "" || e.body.ClientID == "" {
		found, err := p.find(ctx, "/clients/", e.id, roleClients)
		if err != nil || found == nil {
			return err
		}
		found.Enabled = either(e.body.Enabled, found.Enabled, e.Body == nil)
		e.body = *found
	}
	client := name{intake.NameClient, e.body.ClientID}
	if e.rest == "client-secret" || e.rest == "" && isFalse(e.body.Enabled) {
		p.ends(means, intake.Client, e.at, client)
	}
	p.notBefore(means, e.id, e.body.NotBefore, intake.Client, client)
	return nil
}

// realmChange reads an event of the realm.
func (p *Poller) realmChange(ctx context.Context, e *adminEvent, means *intake.Event) error {
	switch {
	case e.Operation == "DELETE":
		p.ends(means, intake.All, e.at)
	case e.Operation == "ACTION" && e.Path == "logout-all":
		p.ends(means, intake.All, e.at)
	case e.Operation == "UPDATE" && e.Path == "" && e.Body != nil:
		if isFalse(e.body.AdminEvents) {
			p.lost(e.at, "the saving of admin events was switched off in the realm")
		}
		if isFalse(e.body.Enabled) {
			p.ends(means, intake.All, e.at)
		}
		p.notBefore(means, "", e.body.NotBefore, intake.All)
	case e.Operation == "UPDATE" && e.Path == "", e.Operation == "ACTION" && e.Path == "push-revocation":
		s, err := p.realm(ctx)
		if err != nil {
			return err
		}
		if isFalse(s.Enabled) && e.Operation == "UPDATE" {
			p.ends(means, intake.All, e.at)
		}
		p.notBefore(means, "", &s.NotBefore, intake.All)
	}
	return nil
}

// disabled reports whether an update has disabled the resource, or has found it
// disabled. Without a representation the state of now decides.
func (p *Poller) disabled(ctx context.Context, e *adminEvent, below, role string) (bool, error) {
	if e.Body != nil {
		return isFalse(e.body.Enabled), nil
	}
	found, err := p.find(ctx, below, e.id, role)
	return found != nil && isFalse(found.Enabled), err
}

// find reads a resource of the realm. It returns nil if there is none: then
// another event says that it was deleted.
func (p *Poller) find(ctx context.Context, below, id, role string) (*representation, error) {
	found := &representation{}
	err := p.ask(ctx, below+url.PathEscape(id), nil, role, p.limit, found)
	if gone(err) {
		return nil, nil
	}
	return found, err
}

// name is a name of a kind that the map of the intake knows.
type name struct{ kind, value string }

// ends adds an act that denies the tokens with all these names, issued until at.
// Without a name it denies all tokens of the realm.
func (p *Poller) ends(means *intake.Event, power intake.Power, at time.Time, names ...name) {
	act := intake.Act{Power: power, Issuer: p.Issuer, Cutoff: at, All: len(names) == 0}
	for _, n := range names {
		claim, ok := p.door.Map.Claim(n.kind, n.value)
		if !ok {
			means.Note = fmt.Sprintf("the event has no %s", n.kind)
			return
		}
		act.Claims = append(act.Claims, claim)
	}
	means.Acts = append(means.Acts, act)
}

// endsToken adds an act that denies one token.
func (p *Poller) endsToken(means *intake.Event, jti string) {
	value, ok := revocation.ValueOf(jti)
	if !ok {
		return
	}
	means.Acts = append(means.Acts, intake.Act{
		Power: intake.Token, Issuer: p.Issuer, Claims: []revocation.Claim{{Name: "jti", Value: value}},
	})
}

// notBefore adds an act for a not-before time that has changed. Every update of a
// client or a realm repeats the time.
func (p *Poller) notBefore(means *intake.Event, id string, seconds *int64, power intake.Power, names ...name) {
	if seconds == nil || *seconds <= 0 || *seconds == p.at.NotBefore[id] {
		return
	}
	if id != "" && len(p.at.NotBefore) >= maxNotBefore {
		clear(p.at.NotBefore) // a repetition does no harm
	}
	p.at.NotBefore[id], p.at.changed = *seconds, true
	p.ends(means, power, time.Unix(*seconds, 0), names...)
}

func isFalse(b *bool) bool { return b != nil && !*b }

// either returns sent, or the state of now if nothing was sent.
func either(sent, now *bool, unsent bool) *bool {
	if unsent {
		return now
	}
	return sent
}
