package tokenrevocation

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/time/rate"

	"rescind/revocation/intake/oauth"
)

// FuzzAuthenticate holds for every header and body: a client is known by its
// secret alone, and by one credential.
func FuzzAuthenticate(f *testing.F) {
	for _, header := range []string{"", "Basic d2ViOnM=", "Basic d2ViOg==", "Basic %%", "Bearer x", "basic d2ViOnM=", "Basic d2ViOiU3Mw=="} {
		f.Add(header, "token=a&client_id=web&client_secret=s")
		f.Add(header, "token=a&client_id=web")
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		form, fault := oauth.ParseForm(body)
		if fault != nil || form.Once() != nil {
			return
		}
		e := Endpoint{clients: []Client{{"web", sha256.Sum256([]byte("s"))}}, failures: rate.NewLimiter(1, 1)}
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		id, fault := e.authenticate(r, form)
		secret, _ := form.Value("client_secret")
		switch {
		case fault == nil && id != "web":
			t.Fatalf("%q %q: got the client %q, want web or a fault", header, body, id)
		case fault == nil && (header != "") == (secret != ""):
			t.Fatalf("%q %q: got the client %q, want a fault unless there is one credential", header, body, id)
		case fault == nil && header == "" && secret != "s":
			t.Fatalf("%q %q: got the client %q, want a fault for the secret %q", header, body, id, secret)
		case fault != nil && id != "":
			t.Fatalf("%q %q: got the client %q and the fault %v, want no client beside a fault", header, body, id, fault)
		}
	})
}
