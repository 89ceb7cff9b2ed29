package jwks

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"rescind/jwks/jwkstest"
	"rescind/jwks/loopback"
)

func TestDiscoveryDocument(t *testing.T) {
	for _, c := range []struct{ name, text, uri, fault string }{
		{"plain", `{"issuer":"https://idp.example/","jwks_uri":"https://idp.example/k","x":[1]}`, "https://idp.example/k", ""},
		{"another issuer", `{"issuer":"https://evil.example/","jwks_uri":"https://idp.example/k"}`, "", "evil.example"},
		{"without the slash", `{"issuer":"https://idp.example","jwks_uri":"https://idp.example/k"}`, "", "byte for byte"},
		{"in another case", `{"issuer":"https://IDP.example/","jwks_uri":"https://idp.example/k"}`, "", "byte for byte"},
		{"a template, as of Entra ID", `{"issuer":"https://idp.example/{tenantid}/","jwks_uri":"https://idp.example/k"}`, "", "byte for byte"},
		{"no issuer", `{"jwks_uri":"https://idp.example/k"}`, "", "byte for byte"},
		{"Issuer", `{"Issuer":"https://idp.example/","jwks_uri":"https://idp.example/k"}`, "", "byte for byte"},
		{"issuer twice", `{"issuer":"https://evil.example/","issuer":"https://idp.example/","jwks_uri":"https://idp.example/k"}`, "", "no discovery document"},
		{"issuer is a list", `{"issuer":["https://idp.example/"],"jwks_uri":"https://idp.example/k"}`, "", "no discovery document"},
		{"no jwks_uri", `{"issuer":"https://idp.example/"}`, "", "no jwks_uri"},
		{"jwks_uri is null", `{"issuer":"https://idp.example/","jwks_uri":null}`, "", "no jwks_uri"},
		{"null", `null`, "", "byte for byte"},
		{"empty", ``, "", "no discovery document"},
		{"two of them", `{"issuer":"https://idp.example/","jwks_uri":"x"}{}`, "", "no discovery document"},
	} {
		uri, err := parseDiscovery([]byte(c.text), idp)
		if uri != c.uri || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: got %q and error %v, want %q and an error with %q", c.name, uri, err, c.uri, c.fault)
		}
	}
}

func TestDiscovery(t *testing.T) {
	good := document(kid("a"))
	keysElsewhere := serve(t, says(good))
	for name, c := range map[string]struct {
		issuer string // after the server's URL
		serve  func(base string) map[string]string
		fault  string
	}{
		"plain": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, base+"/k"), "/k": good}
		}, ""},
		"the issuer ends in a slash": {"/", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base+"/", base+"/k"), "/k": good}
		}, ""},
		"the issuer has a path": {"/realms/x", func(base string) map[string]string {
			return map[string]string{"/realms/x/.well-known/openid-configuration": discovery(base+"/realms/x", base+"/k"), "/k": good}
		}, ""},
		"RFC 8414": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/oauth-authorization-server": discovery(base, base+"/k"), "/k": good}
		}, ""},
		"RFC 8414, with a path": {"/tenant/", func(base string) map[string]string {
			return map[string]string{"/.well-known/oauth-authorization-server/tenant": discovery(base+"/tenant/", base+"/k"), "/k": good}
		}, ""},
		"keys on another host": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, keysElsewhere.URL)}
		}, ""},
		"neither document": {"", func(string) map[string]string { return nil }, "openid-configuration answered 404 Not Found; http"},
		"another issuer": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery("https://evil.example/", base+"/k"), "/k": good}
		}, "evil.example"},
		"the issuer without its slash": {"/", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, base+"/k"), "/k": good}
		}, "byte for byte"},
		"RFC 8414 of another issuer": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/oauth-authorization-server": discovery("https://evil.example/", base+"/k"), "/k": good}
		}, "evil.example"},
		"jwks_uri is http elsewhere": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, "http://keys.example/k")}
		}, "is not https"},
		"jwks_uri is a file": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, "file:///etc/passwd")}
		}, "not an https URL"},
		"jwks_uri is relative": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, "/k"), "/k": good}
		}, "not an https URL"},
		"the keys are not there": {"", func(base string) map[string]string {
			return map[string]string{"/.well-known/openid-configuration": discovery(base, base+"/k")}
		}, "/k answered 404"},
	} {
		t.Run(name, func(t *testing.T) {
			var pages map[string]string
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				page, ok := pages[r.URL.Path]
				if !ok {
					http.NotFound(w, r)
					return
				}
				_, _ = w.Write([]byte(page))
			})
			pages = c.serve(s.URL)
			wantFault(t, fetched(t, Options{Issuer: s.URL + c.issuer, Discovery: true}), c.fault)
		})
	}
}

func discovery(issuer, jwksURI string) string {
	return `{"issuer":"` + issuer + `","jwks_uri":"` + jwksURI + `"}`
}

// A discovery document that fails brings no keys.
func TestDiscoveryFaults(t *testing.T) {
	i, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, f := range []jwkstest.Fault{{Status: 403}, {Status: 500}, {Drop: true}, {Body: "{}"}, {Redirect: "http://localhost/"}} {
		i.BreakDiscovery(f)
		before := i.Fetches()
		st := fetched(t, Options{Issuer: i.URL(), Discovery: true})
		if st.Keys != 0 || st.LastError == "" || i.Fetches() != before {
			t.Errorf("%+v: got status %+v and %d fetches of keys, want no keys, an error and no fetch", f, st, i.Fetches()-before)
		}
	}
	i.BreakDiscovery(jwkstest.Fault{})
	wantFault(t, fetched(t, Options{Issuer: i.URL(), Discovery: true}), "")
}

// roundTrip is a network that one function answers for.
type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// A jwks_uri that may not be named is refused before a connection is made.
func TestDiscoveryCannotBeAimed(t *testing.T) {
	for _, c := range []struct {
		name, issuer, names, fault string
	}{
		{"the same host", "https://idp.example/", "https://idp.example/k", ""},
		{"another host, as Google's", "https://idp.example/", "https://keys.example/k", ""},
		{"localhost", "https://idp.example/", "https://localhost/k", "is on loopback"},
		{"LOCALHOST and a dot", "https://idp.example/", "https://LOCALHOST./k", "is on loopback"},
		{"an address of 127/8", "https://idp.example/", "https://127.8.9.1:6443/k", "is on loopback"},
		{"::1", "https://idp.example/", "https://[::1]/k", "is on loopback"},
		{"an IPv4 address as IPv6", "https://idp.example/", "https://[::ffff:127.0.0.1]/k", "is on loopback"},
		{"loopback without TLS", "https://idp.example/", "http://127.0.0.1:9390/k", "is on loopback"},
		{"http for https", "https://idp.example/", "http://idp.example/k", "has another scheme"},
		{"https for http", "http://idp.example/", "https://idp.example/k", "has another scheme"},
		{"http for http, as configured", "http://idp.example/", "http://keys.example/k", ""},
		{"loopback, of an issuer on loopback", "http://localhost:8080", "http://127.0.0.1:8081/k", ""},
		{"another scheme, of an issuer on loopback", "http://127.0.0.1:8080", "https://keys.example/k", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reached []string
			o := Options{Issuer: c.issuer, Discovery: true, AllowHTTP: true, transport: roundTrip(func(r *http.Request) *http.Response {
				reached = append(reached, r.URL.String())
				body := document(kid("a"))
				if strings.Contains(r.URL.Path, "well-known") {
					body = discovery(c.issuer, c.names)
				}
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}
			})}
			wantFault(t, fetched(t, o), c.fault)
			if c.fault != "" && len(reached) != 1 {
				t.Errorf("issuer %s names %s: requests to %q, want one to the discovery document", c.issuer, c.names, reached)
			}
		})
	}
}

// Neither the document nor the keys are taken from where a redirect leads.
func TestDiscoveryCannotBeAimedByARedirect(t *testing.T) {
	for _, path := range []string{"/.well-known/openid-configuration", "/k"} {
		for _, to := range []string{"https://localhost/k", "https://127.0.0.1/k", "http://idp.example/k", "https://evil.example/k"} {
			o := Options{Issuer: "https://idp.example", Discovery: true, AllowHTTP: true, transport: roundTrip(func(r *http.Request) *http.Response {
				res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r}
				body := document(kid("a"))
				switch {
				case r.URL.Scheme != "https" || r.URL.Host != "idp.example":
					t.Errorf("%s redirects to %s: got the request, want it not made", path, r.URL)
				case r.URL.Path == path:
					res.StatusCode = http.StatusFound
					res.Header.Set("Location", to)
				case strings.Contains(r.URL.Path, "well-known"):
					body = discovery("https://idp.example", "https://idp.example/k")
				}
				res.Body = io.NopCloser(strings.NewReader(body))
				return res
			})}
			wantFault(t, fetched(t, o), "another host or scheme")
		}
	}
}

// A name that resolves to this machine is as good as its address. The same
// server is reached by a client for a URL that the operator configured.
func TestDiscoveredHostsAreNotThisMachine(t *testing.T) {
	s := serve(t, says(document(kid("a"))))
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	o := Options{Issuer: "http://idp.example/", Discovery: true, AllowHTTP: true}
	configured, err := o.requests().Client()
	if err != nil {
		t.Fatal(err)
	}
	defer configured.CloseIdleConnections()
	for _, host := range []string{"localhost", "127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"} {
		named := &url.URL{Scheme: "http", Host: host + ":" + port}
		if _, err := get(t.Context(), configured, named.String(), authorization{}); err != nil {
			t.Errorf("%s, configured: got error %v, want the document", host, err)
		}
		c, err := o.clientFor(named)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		if _, err := get(t.Context(), c, named.String(), authorization{}); err == nil || !strings.Contains(err.Error(), "on this machine") {
			t.Errorf("%s, named by a document: got error %v, want one that says it is on this machine", host, err)
		}
	}
	for address, refused := range map[string]bool{
		"127.0.0.1:443": true, "[::1]:443": true, "[::]:443": true, "0.0.0.0:443": true, "169.254.169.254:80": true, "[fe80::1%eth0]:443": true, "nonsense": true,
		"10.0.0.1:443": false, "192.0.2.1:443": false, "[2001:db8::1]:443": false,
	} {
		if err := refuseLocal("tcp", address, nil); (err != nil) != refused {
			t.Errorf("refuseLocal(%s): got error %v, want one: %v", address, err, refused)
		}
	}
}

func FuzzDiscovery(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://idp.example/","jwks_uri":"https://idp.example/jwks"}`))
	f.Add([]byte(`{"issuer":"https://idp.example/","jwks_uri":"http://127.0.0.1/jwks"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		uri, err := parseDiscovery(text, idp)
		if (err == nil) != (uri != "") {
			t.Fatalf("document %q: got %q and error %v, want one of them", text, uri, err)
		}
		if u, err := (Options{}).requests().Permitted(uri); err == nil && (u.Scheme != "https" && !loopback.Is(u.Hostname()) || u.Hostname() == "") {
			t.Errorf("document %q: %q is permitted, want https or loopback, and a host", text, uri)
		}
	})
}

// A server that has only the document of RFC 8414 may answer any 4xx at the
// other place. A server error is no such answer.
func TestDiscoveryFallsBackOn4xx(t *testing.T) {
	for _, c := range []struct {
		first, second int
		fault         []string // parts of the error; none: there are keys
	}{
		{400, 200, nil},
		{401, 200, nil},
		{403, 200, nil},
		{404, 200, nil},
		{405, 200, nil},
		{429, 200, nil},
		{401, 403, []string{"/.well-known/openid-configuration answered 401", "/.well-known/oauth-authorization-server answered 403"}},
		{404, 500, []string{"/.well-known/openid-configuration answered 404", "/.well-known/oauth-authorization-server answered 500"}},
		{500, 200, []string{"/.well-known/openid-configuration answered 500"}},
	} {
		o := originOf(document(kid("a")))
		o.set("https://idp.example/.well-known/openid-configuration", answer{status: c.first})
		o.set("https://idp.example/.well-known/oauth-authorization-server", answer{status: c.second, body: discovery("https://idp.example", "https://idp.example/k")})
		st := fetched(t, Options{Issuer: "https://idp.example", Discovery: true, transport: o})
		if (st.Keys == 1) != (c.fault == nil) {
			t.Errorf("%d and %d: got status %+v, want keys: %v", c.first, c.second, st, c.fault == nil)
		}
		for _, part := range c.fault {
			if !strings.Contains(st.LastError, part) {
				t.Errorf("%d and %d: got error %q, want one with %q", c.first, c.second, st.LastError, part)
			}
		}
	}
}
