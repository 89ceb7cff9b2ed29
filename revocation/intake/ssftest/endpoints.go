package ssftest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
)

func (t *Transmitter) handler() http.Handler {
	const realm, ssf = "/realms/demo", "/realms/demo/ssf/transmitter"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+realm+"/.well-known/ssf-configuration", t.metadata)
	mux.HandleFunc("POST "+realm+"/protocol/openid-connect/token", t.login)
	mux.HandleFunc("POST "+ssf+"/streams", t.guarded(t.create))
	mux.HandleFunc("GET "+ssf+"/streams", t.guarded(t.show))
	mux.HandleFunc("DELETE "+ssf+"/streams", t.guarded(t.remove))
	mux.HandleFunc("GET "+ssf+"/streams/status", t.guarded(t.showStatus))
	mux.HandleFunc("POST "+ssf+"/streams/status", t.guarded(t.changeStatus))
	mux.HandleFunc("POST "+ssf+"/verify", t.guarded(t.verify))
	mux.HandleFunc("POST "+ssf+"/receivers/{client}/streams/{stream}/poll", t.guarded(t.poll))
	return mux
}

func (t *Transmitter) metadata(w http.ResponseWriter, _ *http.Request) {
	ssf := t.Issuer() + "/ssf/transmitter"
	answer(w, http.StatusOK, map[string]any{
		"spec_version": "1_0", "issuer": t.Issuer(), "jwks_uri": t.KeysURI(),
		"delivery_methods_supported": []string{"urn:ietf:rfc:8935", "urn:ietf:rfc:8936"},
		"configuration_endpoint":     ssf + "/streams", "status_endpoint": ssf + "/streams/status",
		"add_subject_endpoint": ssf + "/subjects/add", "remove_subject_endpoint": ssf + "/subjects/remove",
		"verification_endpoint": ssf + "/verify", "critical_subject_members": []string{"user"},
		"authorization_schemes": []any{map[string]any{"spec_urn": "urn:ietf:rfc:6749"}}, "default_subjects": "NONE",
	})
}

// login gives an access token to the receiver.
func (t *Transmitter) login(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if id != ClientID || secret != Secret || r.PostFormValue("grant_type") != "client_credentials" {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"})
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.logins = rand.Text(), t.logins+1
	answer(w, http.StatusOK, map[string]any{"access_token": t.token, "token_type": "Bearer", "expires_in": 60})
}

// guarded demands the access token. The handler runs with mu held.
func (t *Transmitter) guarded(h func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case t.token == "" || r.Header.Get("Authorization") != "Bearer "+t.token:
			w.WriteHeader(http.StatusUnauthorized)
		case t.fault != 0:
			w.WriteHeader(t.fault)
		default:
			h(w, r)
		}
	}
}

// named reports whether a call names the stream.
func (t *Transmitter) named(id string) bool { return t.stream != nil && t.stream["stream_id"] == id }

func (t *Transmitter) create(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Delivery map[string]any `json:"delivery"`
	}
	if t.stream != nil {
		answer(w, http.StatusConflict, map[string]any{"error": "stream_error", "error_description": "Only one stream per receiver is allowed"})
		return
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || asked.Delivery == nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": "stream_error"})
		return
	}
	t.mu.Unlock()
	t.Open(asked.Delivery)
	t.mu.Lock()
	answer(w, http.StatusCreated, t.stream)
}

func (t *Transmitter) show(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("stream_id")
	switch {
	case id == "" && t.stream == nil:
		answer(w, http.StatusOK, []any{})
	case id == "":
		answer(w, http.StatusOK, []any{t.stream})
	case t.named(id):
		answer(w, http.StatusOK, t.stream)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (t *Transmitter) remove(w http.ResponseWriter, r *http.Request) {
	if !t.named(r.URL.Query().Get("stream_id")) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	t.stream = nil
	w.WriteHeader(http.StatusNoContent)
}

func (t *Transmitter) showStatus(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("stream_id")
	if !t.named(id) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, http.StatusOK, map[string]any{"stream_id": id, "status": t.status, "reason": t.reason})
}

func (t *Transmitter) changeStatus(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		ID     string `json:"stream_id"`
		Status string `json:"status"`
		Reason string `json:"reason"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || !t.named(asked.ID) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	t.status, t.reason = asked.Status, asked.Reason
	answer(w, http.StatusOK, asked)
}

// verify sends the verification event within the call, as Keycloak does. A
// receiver that does not take it makes the call fail.
func (t *Transmitter) verify(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		ID    string `json:"stream_id"`
		State string `json:"state"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || !t.named(asked.ID) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	t.verified = append(t.verified, asked.State)
	delivery, _ := t.stream["delivery"].(map[string]any)
	if t.mute {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	t.mu.Unlock()
	defer t.mu.Lock()
	members := map[string]any{}
	if asked.State != "" {
		members["state"] = asked.State
	}
	id, token := t.Mint(Verification, members, map[string]any{"format": "opaque", "id": asked.ID}, nil)
	if delivery["method"] == "urn:ietf:rfc:8936" {
		t.Queue(id, token)
	} else if got, err := t.Push(token); err != nil || got.Status/100 != 2 {
		answer(w, http.StatusBadRequest, map[string]any{"error": "verification_error"})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// poll answers at once, also if there is no event.
func (t *Transmitter) poll(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Max     *int                         `json:"maxEvents"`
		Ack     []string                     `json:"ack"`
		Refused map[string]map[string]string `json:"setErrs"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || !t.named(r.PathValue("stream")) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	t.polls++
	t.acked = append(t.acked, asked.Ack...)
	for id, why := range asked.Refused {
		t.refused[id] = why["err"]
	}
	t.queue = slices.DeleteFunc(t.queue, func(q queued) bool {
		_, refused := asked.Refused[q.id]
		return refused || slices.Contains(asked.Ack, q.id)
	})
	sets, most := map[string]string{}, len(t.queue)
	if asked.Max != nil {
		most = min(most, *asked.Max)
	}
	if t.status == "enabled" {
		for _, q := range t.queue[:most] {
			sets[q.id] = q.token
		}
	}
	answer(w, http.StatusOK, map[string]any{"sets": sets, "moreAvailable": len(sets) < len(t.queue) && t.status == "enabled"})
}
