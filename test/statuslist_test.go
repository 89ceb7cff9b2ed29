package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

// placed returns a token with this index in the status list of the issuer.
func placed(t *testing.T, s *envoytest.Stack, index int) string {
	t.Helper()
	return minted(t, s, map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": index, "uri": s.Issuer.StatusListURL()}}})
}

// statusLists has the issuer end tokens in its own list, while they are used
// through Envoy.
func statusLists(t *testing.T, w *rig, url string) {
	client := &http.Client{Timeout: 20 * time.Second}
	becomes := func(when, token string, want int) {
		t.Helper()
		eventually.Succeeds(t, fmt.Sprintf("%s, the token gets %d", when, want), func() error { return wants(client, url, token, want) })
	}
	w.Issuer.SetStatus(2, 2)
	valid, suspended := placed(t, w.Stack, 1), placed(t, w.Stack, 2)
	becomes("without status_lists", suspended, http.StatusOK)

	w.write("behind.yaml", w.config("behind", "{listen: 127.0.0.1:0}",
		fmt.Sprintf("    audiences: [api]\n    status_lists: {uris: ['%s/statuslists/'], min_refresh_interval: 1s}", w.Issuer.URL()), ""))
	becomes("once the lists are configured", suspended, http.StatusUnauthorized)
	becomes("with a valid status", valid, http.StatusOK)
	becomes("without a status", minted(t, w.Stack, nil), http.StatusOK)
	becomes("beyond the end of the list", placed(t, w.Stack, 1<<20), http.StatusUnauthorized)

	w.Issuer.SetStatus(1, 1)
	w.Issuer.SetStatus(2, 0)
	becomes("revoked by the issuer", valid, http.StatusUnauthorized)
	becomes("no longer suspended", suspended, http.StatusOK)

	// The last good list stays in use.
	w.Issuer.BreakStatusList(jwkstest.Fault{Status: http.StatusServiceUnavailable})
	fetches := w.Issuer.StatusListFetches()
	eventually.True(t, "a refresh has failed", func() bool { return w.Issuer.StatusListFetches() > fetches })
	becomes("with the list's server down", suspended, http.StatusOK)
	becomes("with the list's server down", valid, http.StatusUnauthorized)
}
