package stream

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rescind/revocation/intake/ssftest"
)

func text(s string) func() (string, error) { return func() (string, error) { return s, nil } }

func startTransmitter(t *testing.T) *ssftest.Transmitter {
	t.Helper()
	tx, err := ssftest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tx.Close)
	return tx
}

func clientOf(tx *ssftest.Transmitter) Options {
	return Options{Issuer: tx.Issuer(), Credential: Credential{TokenURL: tx.TokenURL(), ClientID: ssftest.ClientID, Secret: text(ssftest.Secret), Scopes: []string{"ssf.read", "ssf.manage"}}}
}

func open(t *testing.T, o Options) *Transmitter {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStreamFromCreationToDeletion(t *testing.T) {
	tx := startTransmitter(t)
	c := open(t, clientOf(tx))
	ctx := t.Context()
	made, err := c.Create(ctx, &Stream{Delivery: Delivery{Method: Poll}, EventsRequested: []string{ssftest.SessionRevoked}, Description: "rescind"})
	if err != nil {
		t.Fatal(err)
	}
	if !made.Polls() || made.Delivery.Endpoint != tx.PollURL() || !slices.Equal(made.Audience, Texts{"ssf-rx/" + made.ID}) {
		t.Errorf("got the stream %+v, want one that is polled at %s for the audience of the stream", made, tx.PollURL())
	}
	if _, err := c.Create(ctx, &Stream{Delivery: Delivery{Method: Poll}}); !errors.Is(err, ErrExists) {
		t.Errorf("a second stream: got the error %v, want %v", err, ErrExists)
	}
	if all, err := c.Streams(ctx); err != nil || len(all) != 1 || !reflect.DeepEqual(all[0], *made) {
		t.Errorf("got the streams %+v and the error %v, want the one that was made", all, err)
	}
	if err := c.SetStatus(ctx, Status{ID: made.ID, Status: Paused, Reason: "a test"}); err != nil {
		t.Error(err)
	}
	if s, err := c.Status(ctx, made.ID); err != nil || s.Status != Paused || s.Reason != "a test" {
		t.Errorf("got the status %+v and the error %v, want it paused", s, err)
	}
	if err := c.Verify(ctx, made.ID, "abc"); err != nil || tx.Waiting() != 1 {
		t.Errorf("got the error %v and %d waiting events, want one verification", err, tx.Waiting())
	}
	for range 2 { // a stream that is not there is deleted
		if err := c.Delete(ctx, made.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Status(ctx, made.ID); !Gone(err) {
		t.Errorf("got the error %v for the status of a deleted stream, want that it is gone", err)
	}
}

func TestAccessTokenThatTheTransmitterRefusesIsFetchedAnew(t *testing.T) {
	tx := startTransmitter(t)
	c := open(t, clientOf(tx))
	for range 3 {
		if _, err := c.Streams(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, logins := tx.Counts(); logins != 1 {
		t.Errorf("got %d access tokens for three calls, want one", logins)
	}
	tx.Expire()
	if _, err := c.Streams(t.Context()); err != nil {
		t.Errorf("after the end of the access token: %v, want another token", err)
	}
	wrong := clientOf(tx)
	wrong.Credential.Secret = text("wrong")
	if _, err := open(t, wrong).Streams(t.Context()); err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "unauthorized_client") {
		t.Errorf("a wrong secret: got the error %v, want the answer of the authorization server", err)
	}
}

// document serves documents by their path, and counts requests for others.
func document(t *testing.T, documents map[string]string) (url string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path)
		d, ok := documents[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(d, "HERE", server.URL))
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func TestMetadataPlaces(t *testing.T) {
	const here = `{"issuer":"HERE/realms/r","configuration_endpoint":"HERE/streams"}`
	for _, c := range []struct{ name, issuer, at string }{
		{"inserted between host and path", "/realms/r", "/.well-known/ssf-configuration/realms/r"},
		{"below the path, as Keycloak has it", "/realms/r", "/realms/r/.well-known/ssf-configuration"},
		{"of RISC, as Google has it", "/realms/r", "/.well-known/risc-configuration/realms/r"},
		{"of the first edition", "/realms/r", "/.well-known/sse-configuration/realms/r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, asked := document(t, map[string]string{c.at: here})
			m, err := open(t, Options{Issuer: url + c.issuer}).Discover(t.Context())
			if err != nil || m.Configuration != url+"/streams" {
				t.Errorf("got %+v and the error %v after asking for %v, want the document at %s", m, err, *asked, c.at)
			}
		})
	}
	t.Run("an issuer that ends in a slash", func(t *testing.T) {
		url, _ := document(t, map[string]string{"/.well-known/risc-configuration": `{"issuer":"HERE/"}`})
		if _, err := open(t, Options{Issuer: url + "/"}).Discover(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a URL that the operator names", func(t *testing.T) {
		url, asked := document(t, map[string]string{"/meta": here})
		if _, err := open(t, Options{Issuer: url + "/realms/r", Metadata: url + "/meta"}).Discover(t.Context()); err != nil || len(*asked) != 1 {
			t.Errorf("got the error %v after asking for %v, want /meta alone", err, *asked)
		}
	})
	t.Run("another issuer", func(t *testing.T) {
		url, _ := document(t, map[string]string{"/.well-known/ssf-configuration/realms/r": `{"issuer":"HERE/realms/other"}`})
		if _, err := open(t, Options{Issuer: url + "/realms/r"}).Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "/realms/other") {
			t.Errorf("got the error %v, want it to name the other issuer", err)
		}
	})
}

func TestStreamOfAnotherIssuerIsRefused(t *testing.T) {
	url, _ := document(t, map[string]string{
		"/.well-known/ssf-configuration": `{"issuer":"HERE","configuration_endpoint":"HERE/streams"}`,
		"/streams":                       `[{"stream_id":"s","iss":"https://other.example","aud":"a","delivery":{"method":"urn:ietf:rfc:8936"}}]`,
	})
	if _, err := open(t, Options{Issuer: url}).Streams(t.Context()); err == nil || !strings.Contains(err.Error(), "https://other.example") {
		t.Errorf("got the error %v, want it to name the other issuer", err)
	}
}

func TestMetadataCannotReachPrivateAddresses(t *testing.T) {
	inside, reached := document(t, map[string]string{"/streams": `[]`})
	metadata := `{"issuer":"HERE","configuration_endpoint":"` + inside + `/streams"}`
	url, _ := document(t, map[string]string{"/.well-known/ssf-configuration": metadata})
	if _, err := open(t, Options{Issuer: url}).Streams(t.Context()); err == nil || !strings.Contains(err.Error(), "private address") {
		t.Errorf("got the error %v, want the address refused", err)
	}
	if len(*reached) != 0 {
		t.Errorf("another server on loopback got requests for %v, want none", *reached)
	}
	if _, err := open(t, Options{Issuer: url, AllowPrivate: true}).Streams(t.Context()); err != nil {
		t.Errorf("with allow_private: %v, want the streams", err)
	}
	if _, err := open(t, Options{Issuer: url, PollURL: inside + "/poll"}).Streams(t.Context()); err != nil {
		t.Errorf("with a poll_url on that host: %v, want the streams", err)
	}
}

func TestMetadataCannotLeadTheCredentialIntoTheClear(t *testing.T) {
	url, _ := document(t, map[string]string{"/.well-known/ssf-configuration": `{"issuer":"HERE","configuration_endpoint":"http://idp.example/streams"}`})
	if _, err := open(t, Options{Issuer: url}).Streams(t.Context()); err == nil || !strings.Contains(err.Error(), "is not https") {
		t.Errorf("got the error %v, want the URL refused before a request", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	inside, reached := document(t, map[string]string{"/": `[]`})
	server := httptest.NewServer(http.RedirectHandler(inside+"/", http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	if _, err := open(t, Options{Issuer: server.URL}).Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("got the error %v, want the redirect as the answer", err)
	}
	if len(*reached) != 0 {
		t.Errorf("the server of the redirect got requests for %v, want none", *reached)
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1]:443": true,
		"127.0.0.1:80": false, "[::1]:80": false, "0.0.0.0:80": false, "[::]:80": false,
		"10.1.2.3:443": false, "172.16.0.1:443": false, "192.168.1.1:443": false, "100.64.0.1:443": false,
		"169.254.169.254:80": false, "[fe80::1]:80": false, "[fc00::1]:80": false, "224.0.0.1:80": false, "255.255.255.255:80": false,
		"[::ffff:10.0.0.1]:80": false, "[64:ff9b::a00:1]:80": false, "[2002:a00:1::]:80": false,
	} {
		if err := public("tcp", address, nil); (err == nil) != want {
			t.Errorf("public(%s): got the error %v, want it reachable: %v", address, err, want)
		}
	}
}

func TestPlaintextNeedsLoopbackOrAWord(t *testing.T) {
	for _, c := range []struct {
		issuer string
		allow  bool
		want   bool
	}{
		{"https://idp.example", false, true}, {"http://127.0.0.1:9", false, true}, {"http://idp.example", false, false}, {"http://idp.example", true, true},
		{"https://user:secret@idp.example", false, false}, {"idp.example", false, false},
	} {
		if _, err := Open(Options{Issuer: c.issuer, AllowHTTP: c.allow}); (err == nil) != c.want {
			t.Errorf("Open(%s), allow_http %v: got the error %v, want it open: %v", c.issuer, c.allow, err, c.want)
		}
	}
}
