// Package oauth holds the parts that the push endpoints of OAuth and OpenID
// Connect have in common: a form, an error document, and the answer to an event.
//
// An answer says no more than is true. A success is durable. An event that is
// held, or only rehearsed, is 202 Accepted. An event that is not durable is 503,
// and the sender should send it again. No answer may be cached.
package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"rescind/revocation/intake"
)

// Fault is an error answer in the form of RFC 6749, section 5.2.
type Fault struct {
	Status      int
	Code        string // error
	Description string // error_description; it quotes nothing of the request
	Challenge   string // WWW-Authenticate; empty: none
	Allow       string // of a 405
	Again       time.Duration
}

// Codes of a [Fault].
const (
	InvalidRequest = "invalid_request"
	InvalidClient  = "invalid_client"
	AccessDenied   = "access_denied"
	Unavailable    = "temporarily_unavailable"
)

// Retry is the time after which a sender should send again.
const Retry = 2 * time.Second

func (f *Fault) Error() string { return f.Description }

// Invalid returns the 400 of a request with this fault.
func Invalid(description string) *Fault {
	return &Fault{Status: http.StatusBadRequest, Code: InvalidRequest, Description: description}
}

// NotNow returns the 503 of a request that cannot be carried out now.
func NotNow(description string) *Fault {
	return &Fault{Status: http.StatusServiceUnavailable, Code: Unavailable, Description: description, Again: Retry}
}

// Write answers with the fault.
func (f *Fault) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	if f.Challenge != "" {
		h.Set("WWW-Authenticate", f.Challenge)
	}
	if f.Allow != "" {
		h.Set("Allow", f.Allow)
	}
	if f.Again > 0 {
		h.Set("Retry-After", strconv.Itoa(int(f.Again.Seconds())))
	}
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": f.Code, "error_description": f.Description})
}

// Door carries events out.
type Door interface {
	Take(ctx context.Context, e *intake.Event) (intake.Outcome, error)
	Turn(ctx context.Context, from string, err error)
}

// Refuse answers a request with a fault. A fault of the sender goes to the door,
// for the audit.
func Refuse(w http.ResponseWriter, r *http.Request, d Door, f *Fault) {
	if f.Status < http.StatusInternalServerError {
		d.Turn(r.Context(), intake.From(r), f)
	}
	f.Write(w)
}

// Statuses are the answers to the outcomes of an event.
type Statuses struct {
	Done    int // the effect is durable
	Refused int // the configuration does not allow the event
}

// Take hands an event to the door, and writes the answer to its outcome. The
// sender may go away meanwhile. Its event is carried out all the same.
func Take(w http.ResponseWriter, r *http.Request, d Door, e *intake.Event, s Statuses) (intake.Outcome, error) {
	out, err := d.Take(context.WithoutCancel(r.Context()), e)
	if err != nil {
		NotNow("the event could not be made durable; send it again").Write(w)
	} else {
		Answer(w, out, s)
	}
	return out, err
}

// Answer writes the answer to a durable outcome.
func Answer(w http.ResponseWriter, out intake.Outcome, s Statuses) {
	w.Header().Set("Cache-Control", "no-store")
	switch out.State {
	case intake.Revoked, intake.Already, intake.Undone:
		w.WriteHeader(s.Done)
	case intake.Held, intake.DryRun:
		w.WriteHeader(http.StatusAccepted)
	default: // not done
		(&Fault{Status: s.Refused, Code: AccessDenied, Description: "the configuration of this endpoint does not allow the event; the audit has the reason"}).Write(w)
	}
}
