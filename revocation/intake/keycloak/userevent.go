package keycloak

import (
	"context"
	"encoding/json"
	"time"

	"rescind/revocation/intake"
)

// userEvent returns the meaning of a user event.
func (p *Poller) userEvent(_ context.Context, text json.RawMessage) (*intake.Event, error) {
	var e struct {
		Time    int64  `json:"time"`
		Type    string `json:"type"`
		User    string `json:"userId"`
		Session string `json:"sessionId"`
		Error   string `json:"error"`
		Details struct {
			Token   string `json:"token_id"`
			Refresh string `json:"refresh_token_id"`
			Client  string `json:"revoked_client"`
		} `json:"details"`
	}
	if fault := json.Unmarshal(text, &e); fault != nil {
		return p.unreadable(fault), nil
	}
	means, at := &intake.Event{Type: e.Type}, time.UnixMilli(max(0, e.Time))
	switch {
	case e.Error != "":
		means.Note = "the operation has failed"
	case e.Type == "LOGOUT":
		p.ends(means, intake.Session, at, name{intake.NameSession, e.Session})
	case e.Type == "DELETE_ACCOUNT", e.Type == "USER_DISABLED_BY_PERMANENT_LOCKOUT":
		p.ends(means, intake.Subject, at, name{intake.NameSub, e.User})
	case e.Type != "REVOKE_GRANT":
		means.Note = "the event ends no token"
	case e.Details.Token != "":
		p.endsToken(means, e.Details.Token)
	case e.Details.Refresh != "" && e.Session != "": // the session goes on for other clients
		p.ends(means, intake.Session, at, name{intake.NameSession, e.Session}, name{intake.NameClient, e.Details.Client})
	default:
		p.ends(means, intake.Subject, at, name{intake.NameSub, e.User}, name{intake.NameClient, e.Details.Client})
	}
	return means, nil
}
