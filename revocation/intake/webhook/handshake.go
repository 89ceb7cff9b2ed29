package webhook

import (
	"encoding/json"
	"net/http"

	"rescind/revocation/intake"
)

// oktaHandshake returns the challenge of Okta. It proves that somebody at the URL
// expects events, and gives nobody a power.
func oktaHandshake(w http.ResponseWriter, r *http.Request) {
	challenge := r.Header.Get("X-Okta-Verification-Challenge")
	if challenge == "" || len(challenge) > maxEcho {
		fail(w, http.StatusBadRequest, "the header X-Okta-Verification-Challenge is missing, or is too long")
		return
	}
	body, _ := json.Marshal(map[string]string{"verification": challenge})
	intake.Answer(w, http.StatusOK, "application/json", body)
}

// graphHandshake returns the validation token of Microsoft Graph, as plain text.
func graphHandshake(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("validationToken")
	if token == "" || len(token) > maxEcho {
		fail(w, http.StatusBadRequest, "the parameter validationToken is empty, or is too long")
		return
	}
	intake.Answer(w, http.StatusOK, "text/plain; charset=utf-8", []byte(token))
}
