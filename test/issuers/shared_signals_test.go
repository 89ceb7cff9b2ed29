package issuers

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/test/eventually"
)

// credential is the Authorization header of each push.
const credential = "Bearer the-pushes-of-keycloak"

// signalled are the acts of which Keycloak sends a security event.
var signalled = []string{"user logs out", "user logged out by an administrator", "password reset"}

// sharedSignals runs a product of its own with one intake of Shared Signals, and
// does the acts that Keycloak sends events of. Pushed events come to addr.
func sharedSignals(t *testing.T, k *keycloak, kind, addr string, measured figures) {
	delivery := object{"method": "urn:ietf:rfc:8936"}
	if kind == "ssf_push" {
		delivery = object{"method": "urn:ietf:rfc:8935", "endpoint_url": "http://" + addr + "/intake/signals/events", "authorization_header": credential}
	}
	stream := k.makeStream(t, delivery)
	intake := fmt.Sprintf(`  - name: signals
    kind: %s
    issuers: [%q]
    discovery: true
    audiences: [%s]
    stream: %s
`, kind, k.issuer(), stream.Audience[0], stream.ID)
	listener := pushedTo(addr)
	if kind == "ssf_push" {
		intake += fmt.Sprintf("    authorization_sha256: %x\n", sha256.Sum256([]byte(credential)))
	} else {
		listener = "intake:\n"
		file := filepath.Join(t.TempDir(), "receiver.secret")
		must(t, os.WriteFile(file, []byte(secret), 0o600))
		intake += fmt.Sprintf("    management: {token_url: %q, client_id: %s, client_secret_file: %q, allow_private: true}\n",
			k.issuer()+"/protocol/openid-connect/token", signalClient, file)
	}
	p := startProduct(t, k.issuer(), listener+intake)
	for round := range rounds() {
		for _, a := range acts {
			for _, name := range signalled {
				if a.name != name {
					continue
				}
				s, err := k.prepare(a, strings.ReplaceAll(fmt.Sprintf("%s-%d-%s", kind, round, a.name), " ", "-"))
				must(t, err)
				p.accepts(t, s.token)
				end := p.ends(t, s.token, func() error { return a.do(k, s) })
				end.intake = kind
				measured.add(a.name, end)
			}
		}
	}
}

// stream is a stream of Keycloak's transmitter.
type stream struct {
	ID       string `json:"stream_id"`
	Audience []string
}

// makeStream makes the one stream that the receiver's client can have.
func (k *keycloak) makeStream(t *testing.T, delivery object) (made stream) {
	t.Helper()
	bearer, err := k.serviceToken(signalClient)
	must(t, err)
	streams := k.issuer() + "/ssf/transmitter/streams"
	var old []stream
	must(t, exchange(bearer, http.MethodGet, streams, nil, &old))
	for _, s := range old {
		must(t, exchange(bearer, http.MethodDelete, streams+"?stream_id="+s.ID, nil, nil))
	}
	const caep = "https://schemas.openid.net/secevent/caep/event-type/"
	body := object{"delivery": delivery, "events_requested": []string{caep + "session-revoked", caep + "credential-change"}}
	var answer struct {
		stream
		Audience []string `json:"aud"`
	}
	eventually.Succeeds(t, "Keycloak makes the stream", func() error { return exchange(bearer, http.MethodPost, streams, body, &answer) })
	return stream{answer.ID, answer.Audience}
}
