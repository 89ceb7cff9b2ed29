// Package webhook takes the events of senders that have a format of their own:
// HR systems, and identity providers such as Auth0, Okta and Microsoft Entra. The
// configuration says how a sender proves itself, and which members of its
// messages name the tokens that an event ends.
//
// # Senders
//
// A sender signs its messages with a shared secret (HMAC), or sends a token, or a
// secret that stands in each event. A message without that is 401, and nothing of
// it is carried out. The message is answered with 204 once the effects of all its
// events are durable. A sender that gets a 5xx must send the message again.
//
// # Rules
//
// A message is one event, or holds an array of events. The first rule whose
// conditions an event meets says what the event does. An event that meets no rule
// is counted as ignored. An event that meets a rule, but does not have the names
// that the rule needs, is turned away and is in the audit.
//
// # Repetitions
//
// Without an ID a repetition is a new event. It is harmless: the revocation is in
// force, and a cut-off that the event names is the same. An ID is never made up
// from the content, because two events with the same content are not the same
// event: a user can be deactivated twice.
package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
)

// Options describe the messages of one sender.
type Options struct {
	Sender Sender
	Shake  Handshake
	SCIM   bool // takes PATCH and DELETE of users, beside messages

	Each jwt.ClaimName // the array of events in a message; zero: the message is the event, or the array
	ID   jwt.ClaimName // of an event; zero: events have none
	Type jwt.ClaimName
	Time jwt.ClaimName // when it happened; zero: when it was received

	Rules []Rule
}

// Handshake is the way in which a sender tries out the URL.
type Handshake string

// The handshakes.
const (
	NoHandshake Handshake = ""
	Okta        Handshake = "okta"  // of an event hook
	Graph       Handshake = "graph" // of a subscription of Microsoft Graph
)

// Bounds of a message.
const (
	maxBody   = 1 << 20 // bytes
	maxEvents = 1000
	maxEcho   = 1024 // bytes of a handshake
)

// Hook serves the paths behind the name of an intake.
type Hook struct {
	Options
	door *intake.Door
	now  func() time.Time
}

// New returns the hook of a door.
func New(o Options, door *intake.Door) *Hook {
	return &Hook{o, door, door.Authority.Now}
}

// ServeHTTP takes a message, or answers a handshake.
func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, scim := strings.CutPrefix(r.URL.Path, "/Users/")
	scim = scim && h.SCIM && user != ""
	switch {
	case scim && (r.Method == http.MethodPatch || r.Method == http.MethodDelete):
		h.take(w, r, func(body any) ([]any, error) { return scimEvents(user, r.Method, body) })
	case scim:
		w.Header().Set("Allow", "PATCH, DELETE")
		fail(w, http.StatusMethodNotAllowed, "the method must be PATCH or DELETE")
	case r.URL.Path != "/events":
		w.WriteHeader(http.StatusNotFound)
	case h.Shake == Okta && r.Method == http.MethodGet:
		oktaHandshake(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, "the method must be POST")
	case h.Shake == Graph && r.URL.Query().Has("validationToken"):
		graphHandshake(w, r)
	default:
		h.take(w, r, h.events)
	}
}

// take carries out the events of a message.
func (h *Hook) take(w http.ResponseWriter, r *http.Request, split func(any) ([]any, error)) {
	events, err := h.read(w, r, split)
	if err != nil {
		h.door.Turn(r.Context(), intake.From(r), err)
		refuse(w, err)
		return
	}
	for _, e := range events {
		means, err := h.meaning(e)
		if err != nil {
			h.door.Turn(r.Context(), intake.From(r), err)
			continue
		}
		if _, err := h.door.Take(r.Context(), means); err != nil {
			w.Header().Set("Retry-After", "5")
			fail(w, http.StatusServiceUnavailable, "the event is not durable; send the message again")
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// read returns the events of a message, after the sender has proved itself.
func (h *Hook) read(w http.ResponseWriter, r *http.Request, split func(any) ([]any, error)) ([]any, error) {
	if err := h.Sender.token(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, fault{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes; send fewer events in a message", maxBody)}
	} else if err != nil {
		return nil, fault{http.StatusBadRequest, "the body did not arrive whole"}
	}
	if err := h.Sender.signature(r, body, h.now()); err != nil {
		return nil, err
	}
	var document any
	if r.Method != http.MethodDelete {
		if !isJSON(r.Header.Get("Content-Type")) {
			return nil, fault{http.StatusUnsupportedMediaType, "the Content-Type must be application/json"}
		}
		if document, err = jwt.DecodeJSON(body); err != nil {
			return nil, fault{http.StatusBadRequest, "the body is not JSON: " + err.Error()}
		}
	}
	events, err := split(document)
	if err != nil {
		return nil, err
	}
	if len(events) > maxEvents {
		return nil, fault{http.StatusRequestEntityTooLarge, fmt.Sprintf("the message has more than %d events; send fewer in a message", maxEvents)}
	}
	return h.Sender.stated(events)
}

// events returns the events of a message.
func (h *Hook) events(body any) ([]any, error) {
	if h.Each == (jwt.ClaimName{}) {
		if list, ok := body.([]any); ok {
			return list, nil
		}
		return []any{body}, nil
	}
	object, _ := body.(map[string]any)
	list, ok := h.Each.In(object)
	if events, isList := list.([]any); ok && isList {
		return events, nil
	}
	return nil, fault{http.StatusBadRequest, fmt.Sprintf("the message has no array at %q", h.Each)}
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"))
}

// fault is an error of a request with its HTTP status.
type fault struct {
	status int
	text   string
}

func (f fault) Error() string { return f.text }

func refuse(w http.ResponseWriter, err error) {
	f := fault{status: http.StatusServiceUnavailable}
	_ = errors.As(err, &f)
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	text := f.text
	if text == "" {
		text = "the sender cannot be verified now; send the message again"
	}
	fail(w, f.status, text)
}

// fail writes an error in the form of OAuth.
func fail(w http.ResponseWriter, status int, text string) {
	word := "invalid_request"
	switch status {
	case http.StatusUnauthorized:
		word = "invalid_client"
	case http.StatusServiceUnavailable:
		word = "temporarily_unavailable"
	}
	body, _ := json.Marshal(map[string]string{"error": word, "error_description": text})
	intake.Answer(w, status, "application/json", body)
}
