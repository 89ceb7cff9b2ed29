package jwkstest

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
)

// session is one login. It ends when a refresh token is used twice, because then
// a thief may have the token (RFC 9700, section 4.14).
type session struct {
	id, subject, client, scope string
	refresh                    string // the one refresh token that is accepted
}

func (i *Issuer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /jwks", i.jwks)
	mux.HandleFunc("GET /statuslists/1", i.statusList)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /revoke", i.revoke)
	mux.HandleFunc("POST /disable", i.disable)
	mux.HandleFunc("POST /rotate", func(w http.ResponseWriter, _ *http.Request) {
		if err := i.Rotate(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, http.StatusOK, map[string]string{"kid": i.KeyID()})
	})
	mux.HandleFunc("POST /retire", func(w http.ResponseWriter, _ *http.Request) {
		i.Retire()
		answer(w, http.StatusOK, map[string]string{"kid": i.KeyID()})
	})
	return mux
}

func (i *Issuer) discovery(w http.ResponseWriter, r *http.Request) {
	i.discoveries.Add(1)
	i.mu.Lock()
	f := i.discoveryFault
	i.mu.Unlock()
	i.faulty(w, r, f, map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              i.url + "/jwks",
		"token_endpoint":                        i.url + "/token",
		"revocation_endpoint":                   i.url + "/revoke",
		"grant_types_supported":                 []string{"password", "refresh_token"},
		"response_types_supported":              []string{"token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{i.o.Algorithm},
	})
}

func (i *Issuer) jwks(w http.ResponseWriter, r *http.Request) {
	i.fetches.Add(1)
	i.mu.Lock()
	f := i.keysFault
	published := []map[string]string{}
	for _, k := range i.keys {
		published = append(published, k.jwk())
	}
	i.mu.Unlock()
	i.faulty(w, r, f, map[string]any{"keys": published})
}

// token serves the endpoint of RFC 6749, sections 4.3 and 6.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	var s session
	var fault string
	switch r.PostFormValue("grant_type") {
	case "password":
		s, fault = i.login(r.PostFormValue("username"), r.PostFormValue("client_id"), r.PostFormValue("scope"))
	case "refresh_token":
		s, fault = i.renew(r.PostFormValue("refresh_token"))
	default:
		fault = "unsupported_grant_type"
	}
	if fault != "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": fault})
		return
	}
	access, err := i.Mint(map[string]any{"sub": s.subject, "sid": s.id, "client_id": s.client, "scope": s.scope})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"access_token":  access,
		"token_type":    "Bearer",
		"expires_in":    int(i.o.Lifetime.Seconds()),
		"refresh_token": s.refresh,
		"scope":         s.scope,
	})
}

func (i *Issuer) login(username, client, scope string) (s session, fault string) {
	if username == "" {
		return session{}, "invalid_request"
	}
	s = session{id: rand.Text(), subject: username, client: cmp.Or(client, defaultClient), scope: cmp.Or(scope, defaultScope)}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.disabled[username] {
		return session{}, "invalid_grant"
	}
	return i.continued(s), ""
}

func (i *Issuer) renew(refresh string) (s session, fault string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, ok := i.sessions[i.refresh[refresh]]
	if !ok {
		return session{}, "invalid_grant"
	}
	if s.refresh != refresh {
		delete(i.sessions, s.id)
		return session{}, "invalid_grant"
	}
	return i.continued(s), ""
}

// continued returns s with a new refresh token. The caller holds mu.
func (i *Issuer) continued(s session) session {
	s.refresh = rand.Text()
	i.refresh[s.refresh] = s.id
	i.sessions[s.id] = s
	return s
}

// revoke serves the endpoint of RFC 7009. It ends the session of a refresh token.
// An access token stays valid until it expires, as it does with most issuers.
// Rescind exists to revoke it.
func (i *Issuer) revoke(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.sessions, i.refresh[r.PostFormValue("token")])
	w.WriteHeader(http.StatusOK)
}

func answer(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document)
}
