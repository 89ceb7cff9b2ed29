package jwkstest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
)

// session is one login. It ends with the use of a refresh token that was used
// before: then somebody has it who should not (RFC 9700, section 4.14).
type session struct {
	subject, client, scope string
	refresh                string // the only one that is good
}

func (i *Issuer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /jwks", i.jwks)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /revoke", i.revoke)
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

// token is the endpoint of RFC 6749, sections 4.3 and 6.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	var sid string
	var fault string
	switch r.PostFormValue("grant_type") {
	case "password":
		sid, fault = i.login(r.PostFormValue("username"), r.PostFormValue("client_id"), r.PostFormValue("scope"))
	case "refresh_token":
		sid, fault = i.renew(r.PostFormValue("refresh_token"))
	default:
		fault = "unsupported_grant_type"
	}
	if fault != "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": fault})
		return
	}
	i.mu.Lock()
	s := *i.sessions[sid]
	i.mu.Unlock()
	access, err := i.Mint(map[string]any{"sub": s.subject, "sid": sid, "client_id": s.client, "scope": s.scope})
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

func (i *Issuer) login(username, client, scope string) (sid, fault string) {
	if username == "" {
		return "", "invalid_request"
	}
	if client == "" {
		client = defaultClient
	}
	if scope == "" {
		scope = defaultScope
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	sid = rand.Text()
	i.sessions[sid] = &session{subject: username, client: client, scope: scope}
	i.issueRefresh(sid)
	return sid, ""
}

func (i *Issuer) renew(refresh string) (sid, fault string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	sid = i.refresh[refresh]
	s := i.sessions[sid]
	if s == nil {
		return "", "invalid_grant"
	}
	if s.refresh != refresh {
		delete(i.sessions, sid)
		return "", "invalid_grant"
	}
	i.issueRefresh(sid)
	return sid, ""
}

// issueRefresh is called with mu held.
func (i *Issuer) issueRefresh(sid string) {
	refresh := rand.Text()
	i.sessions[sid].refresh = refresh
	i.refresh[refresh] = sid
}

// revoke is the endpoint of RFC 7009. It ends the session of a refresh token.
// An access token lives on until it expires, as with most issuers: that is
// what rescind is for.
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
