package jwkstest

import (
	"bytes"
	"compress/zlib"
	"net/http"
	"time"
)

// places is how many tokens the status list has room for, at eight bits each.
const places = 1024

// StatusListURL returns the URI of the issuer's Token Status List. The claim
// status.status_list of a token names it beside an index below 1024.
func (i *Issuer) StatusListURL() string { return i.url + "/statuslists/1" }

// SetStatus sets the status of the token with this index. 0 is valid, 1 invalid
// and 2 suspended.
func (i *Issuer) SetStatus(index int, status byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.statuses[index] = status
}

// BreakStatusList makes the status list misbehave from now on. Fault{} ends that.
func (i *Issuer) BreakStatusList(f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.statusFault = f
}

// StatusListFetches returns the number of requests for the status list.
func (i *Issuer) StatusListFetches() int { return int(i.statusFetches.Load()) }

// statusList serves the list as draft-ietf-oauth-status-list has it. Its ttl is a
// second.
func (i *Issuer) statusList(w http.ResponseWriter, r *http.Request) {
	i.statusFetches.Add(1)
	i.mu.Lock()
	f, statuses := i.statusFault, bytes.Clone(i.statuses[:])
	i.mu.Unlock()
	if f != (Fault{}) {
		i.faulty(w, r, f, nil)
		return
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(statuses)
	_ = z.Close()
	token, err := i.MintWith(map[string]any{"typ": "statuslist+jwt"}, map[string]any{
		"sub": i.StatusListURL(), "exp": time.Now().Add(time.Hour).Unix(), "ttl": 1, "aud": nil, "jti": nil, "sid": nil, "scope": nil, "client_id": nil,
		"status_list": map[string]any{"bits": 8, "lst": b64.EncodeToString(packed.Bytes())},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/statuslist+jwt")
	_, _ = w.Write([]byte(token))
}
