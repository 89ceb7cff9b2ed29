package ssf

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"

	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
)

// Path is where events are pushed, behind the name of the intake.
const Path = "/events"

var (
	errNoCredential = errors.New("the push carries no Authorization header, or more than one")
	errCredential   = errors.New("the Authorization header of the push is not the one of the stream")
)

// ServeHTTP takes one token at [Path] (RFC 8935). It answers 202 once the effects
// of the token are durable.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != Path {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if err := r.authenticate(req); err != nil {
		r.Door.Turn(req.Context(), intake.From(req), err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		intake.Answer(w, http.StatusUnauthorized, "text/plain; charset=utf-8", []byte(err.Error()+"\n"))
		return
	}
	// Keycloak sends no Accept header, so none is asked for.
	body, err := intake.ReadBody(w, req, "application/secevent+jwt")
	switch {
	case errors.Is(err, intake.ErrMethod):
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case err != nil:
		err = &secevent.Fault{Code: secevent.InvalidRequest, Description: err.Error()}
	default:
		err = r.take(req.Context(), string(body), "")
	}
	r.answer(w, req, err)
}

// answer writes the answer to a push that came to err.
func (r *Receiver) answer(w http.ResponseWriter, req *http.Request, err error) {
	var fault *secevent.Fault
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case errors.As(err, &fault):
		r.Door.Turn(req.Context(), intake.From(req), err)
		text, _ := json.Marshal(struct { // two texts are always JSON
			Err         secevent.Code `json:"err"`
			Description string        `json:"description"`
		}{fault.Code, fault.Description})
		w.Header().Set("Content-Language", "en")
		intake.Answer(w, http.StatusBadRequest, "application/json", text)
	default:
		w.Header().Set("Retry-After", "5")
		intake.Answer(w, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte("the event could not be made durable; send it again\n"))
	}
}

// authenticate returns an error unless the push carries the header that the
// transmitter was given with the stream.
func (r *Receiver) authenticate(req *http.Request) error {
	if r.Authorization == nil {
		return nil
	}
	values := req.Header.Values("Authorization")
	if len(values) != 1 {
		return errNoCredential
	}
	sum := sha256.Sum256([]byte(values[0]))
	if subtle.ConstantTimeCompare(sum[:], r.Authorization[:]) != 1 {
		return errCredential
	}
	return nil
}
