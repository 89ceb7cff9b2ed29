package replica

import (
	"fmt"
	"strings"
	"testing"

	"rescind/authz"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

// at returns the claims of a token with this place in the issuer's status list.
func (r *reloading) at(index int) map[string]any {
	return map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": index, "uri": r.issuer.StatusListURL()}}}
}

// eventually waits until tokens with these claims have this reason.
func (r *reloading) eventually(what string, claims map[string]any, reason authz.Reason) {
	r.t.Helper()
	eventually.True(r.t, fmt.Sprintf("%s: %s", what, reason), func() bool { return r.reasonOf(claims) == reason })
}

// lists returns settings with the issuer's status lists.
func (r *reloading) lists(keys string) string {
	return fmt.Sprintf("discovery: true, audiences: [api], status_lists: {uris: [%s/statuslists/], min_refresh_interval: 1s%s}", r.issuer.URL(), keys)
}

// A reload puts status lists in force, keeps fetched lists where their settings
// stay, fetches the known ones before new settings take their place, and drops them.
func TestReloadOfStatusLists(t *testing.T) {
	r := startReloading(t)
	r.issuer.SetStatus(1, 1)
	present := func() *issuerLists { return r.keys[r.issuer.URL()].status }
	r.want("without status_lists", r.at(1), authz.OK)

	r.write(r.lists(""), "")
	r.reload(t.Context())
	r.want("the first token of a list", r.at(0), authz.StatusUnavailable)
	r.eventually("valid", r.at(0), authz.OK)
	r.want("invalid", r.at(1), authz.Revoked)
	r.want("beyond the list", r.at(5000), authz.StatusRefused)
	r.want("without a status", nil, authz.OK)

	lists, fetches := present(), r.issuer.StatusListFetches()
	r.write(r.lists("")+", token_types: [at+jwt]", "policies: {public: {token: optional}}\n")
	r.reload(t.Context())
	if present() != lists || lists == nil {
		t.Error("a reload of other settings: got other status lists, want the same")
	}
	r.want("after a reload of other settings", r.at(1), authz.Revoked)

	r.write(r.lists(", max_age: 1h"), "")
	r.reload(t.Context())
	if present() == lists || r.issuer.StatusListFetches() == fetches {
		t.Errorf("a reload of other bounds: got the same lists: %v, and %d fetches, want other lists and more than %d", present() == lists, r.issuer.StatusListFetches(), fetches)
	}
	r.want("at once after a reload of other bounds", r.at(0), authz.OK)
	r.want("at once after a reload of other bounds", r.at(1), authz.Revoked)

	r.write(r.lists(", on_unavailable: allow"), "")
	r.reload(t.Context())
	r.want("unavailable and allowed", map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": 1, "uri": r.issuer.StatusListURL() + "0"}}}, authz.OK)
	r.want("another host, where the unavailable is allowed", map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": 1, "uri": "https://idp.example/statuslists/1"}}}, authz.StatusRefused)

	r.write("discovery: true, audiences: [api]", "")
	r.reload(t.Context())
	r.want("without status_lists again", r.at(1), authz.OK)
}

// Lists that another party signs need its keys, and are not believed by those of
// the issuer.
func TestStatusListsOfAnotherParty(t *testing.T) {
	r := startReloading(t)
	other, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	must(t, other, err)
	t.Cleanup(other.Close)
	other.SetStatus(1, 2)
	claims := func(index int) map[string]any {
		return map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": index, "uri": other.StatusListURL()}}}
	}
	settings := "discovery: true, audiences: [api], status_lists: {uris: ['" + other.StatusListURL() + "'], min_refresh_interval: 1s%s}"
	r.write(fmt.Sprintf(settings, ""), "")
	r.reload(t.Context())
	r.want("without its keys", claims(0), authz.StatusUnavailable)
	if ready := r.readiness(); !strings.Contains(strings.Join(ready.Notes, "; "), "1 status lists of issuer "+r.issuer.URL()) {
		t.Errorf("without its keys: got the notes %q, want one of a status list", ready.Notes)
	}
	r.write(fmt.Sprintf(settings, ", jwks_uri: '"+other.URL()+"/jwks'"), "")
	r.reload(t.Context())
	r.want("valid", claims(0), authz.OK)
	r.want("suspended", claims(1), authz.Revoked)
	own := r.keys[r.issuer.URL()].status.own.keys
	r.write(fmt.Sprintf(settings, ", max_lists: 3, jwks_uri: '"+other.URL()+"/jwks'"), "")
	r.reload(t.Context())
	if r.keys[r.issuer.URL()].status.own.keys != own {
		t.Error("a reload of another bound: got other keys of the lists, want the same")
	}
	r.want("suspended, after a reload", claims(1), authz.Revoked)
}
