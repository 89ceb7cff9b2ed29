package authz

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// browserPlaces are every kind of place.
var browserPlaces = placesOf([]Place{
	{Header: "Authorization"}, {Header: "cf-access-jwt-assertion"}, {Header: "x-api-token", Scheme: "JWT"},
	{Cookie: "session"}, {Query: "access_token"}, {WebSocketProtocol: "bearer."},
})

// A token that is put into a place is read from it again, and from no other place.
func TestPutIsReadAgain(t *testing.T) {
	for _, p := range append(slices.Clone(browserPlaces), Place{}, Place{Query: "a b&c=d"}, Place{Header: "Authorization"}) {
		h, query := p.Put("a.b+c")
		r := &Request{Path: "/?" + query}
		if h.Name != "" {
			r.Headers = []Header{h}
		}
		if b, reason := findBearer(r, placesOf(append(slices.Clone(browserPlaces), Place{Query: "a b&c=d"})), DefaultMaxToken); b.token != "a.b+c" || reason != "" {
			t.Errorf("%s: put as header %q and query %q, read as %q and reason %q, want a.b+c", p, h, query, b.token, reason)
		}
	}
}

func TestFindBearer(t *testing.T) {
	large := strings.Repeat("a", DefaultMaxToken)
	for _, c := range []struct {
		name, path string
		headers    []Header
		token      string
		reason     Reason
	}{
		{"the Authorization header", "/", []Header{field("authorization", "Bearer a.b.c")}, "a.b.c", ""},
		{"a header as a whole", "/", []Header{field("CF-Access-Jwt-Assertion", "a.b.c")}, "a.b.c", ""},
		{"a header with a scheme of its own", "/", []Header{field("x-api-token", "jwt  a.b.c")}, "a.b.c", ""},
		{"a cookie", "/", []Header{field("cookie", "theme=dark; session=a.b.c;lang=en")}, "a.b.c", ""},
		{"a cookie in the second of two headers", "/", []Header{field("cookie", "theme=dark"), field("Cookie", "session=a.b.c")}, "a.b.c", ""},
		{"a cookie in quotes", "/", []Header{field("cookie", `session="a.b.c"`)}, "a.b.c", ""},
		{"a cookie with space around", "/", []Header{field("cookie", " \tsession = a.b.c ")}, "a.b.c", ""},
		{"a parameter", "/x?a=b&access_token=a.b.c", nil, "a.b.c", ""},
		{"a parameter, percent-encoded", "/x?acc%65ss_token=a%2Eb.c", nil, "a.b.c", ""},
		{"a parameter before a fragment", "/x?access_token=a.b.c#f", nil, "a.b.c", ""},
		{"a WebSocket protocol", "/", []Header{field("sec-websocket-protocol", "chat, bearer.a.b.c")}, "a.b.c", ""},
		{"a WebSocket protocol in the second of two headers", "/", []Header{field("sec-websocket-protocol", "chat"), field("sec-websocket-protocol", "bearer.a.b.c")}, "a.b.c", ""},
		{"a token beside empty places", "/?access_token=", []Header{field("authorization", ""), field("cookie", "session=; session=\"\"; session"), field("sec-websocket-protocol", "bearer.,chat"), field("cf-access-jwt-assertion", "a.b.c")}, "a.b.c", ""},
		{"an empty value and a token in one place", "/?access_token=&access_token=a.b.c&access_token", nil, "a.b.c", ""},
		{"a token beside another scheme", "/", []Header{field("authorization", "Basic eA"), field("cookie", "session=a.b.c")}, "a.b.c", ""},
		{"as large as may be", "/", []Header{field("cookie", "session="+large)}, large, ""},

		{"nothing", "/", nil, "", NoToken},
		{"other cookies", "/", []Header{field("cookie", "Session=a.b.c; mysession=a.b.c; sessions=a.b.c; x=session=a.b.c")}, "", NoToken},
		{"other parameters", "/access_token=a?Access_Token=a.b.c&x=access_token=a&access%5token=a&%61ccess_tokens=a", nil, "", NoToken},
		{"a parameter of the fragment", "/x#?access_token=a.b.c", nil, "", NoToken},
		{"other protocols", "/", []Header{field("sec-websocket-protocol", "Bearer.a.b.c, xbearer.a, bearer")}, "", NoToken},
		{"another scheme in a header of ours", "/", []Header{field("x-api-token", "Bearer a.b.c")}, "", NoToken},
		{"a header without its scheme", "/", []Header{field("x-api-token", "a.b.c")}, "", NoToken},

		{"two headers", "/", []Header{field("authorization", "Bearer a.b.c"), field("cf-access-jwt-assertion", "a.b.c")}, "", BadRequest},
		{"a header and a cookie", "/", []Header{field("authorization", "Bearer a.b.c"), field("cookie", "session=a.b.c")}, "", BadRequest},
		{"a cookie and a parameter", "/?access_token=a.b.c", []Header{field("cookie", "session=a.b.c")}, "", BadRequest},
		{"a parameter and a protocol", "/?access_token=a.b.c", []Header{field("sec-websocket-protocol", "bearer.a.b.c")}, "", BadRequest},
		{"one header twice", "/", []Header{field("cf-access-jwt-assertion", "a.b.c"), field("CF-Access-JWT-Assertion", "a.b.c")}, "", BadRequest},
		{"one header twice, merged", "/", []Header{field("cf-access-jwt-assertion", "a.b.c,a.b.c")}, "", BadRequest},
		{"one cookie twice", "/", []Header{field("cookie", "session=a.b.c; session=d.e.f")}, "", BadRequest},
		{"one cookie twice, in two headers", "/", []Header{field("cookie", "session=a.b.c"), field("cookie", "session=a.b.c")}, "", BadRequest},
		{"one cookie twice, merged", "/", []Header{field("cookie", "session=a.b.c,session=d.e.f")}, "", BadRequest},
		{"a cookie that some servers see", "/", []Header{field("cookie", "theme=dark, session=d.e.f")}, "", BadRequest},
		{"one parameter twice", "/?access_token=a.b.c&access_token=a.b.c", nil, "", BadRequest},
		{"one parameter twice, in two spellings", "/?access_token=a.b.c&access%5Ftoken=d.e.f", nil, "", BadRequest},
		{"a parameter that some servers see", "/?x=y;access_token=a.b.c", nil, "", BadRequest},
		{"a parameter that cannot be decoded", "/?access_token=a.b.%zz", nil, "", BadRequest},
		{"a parameter that is not UTF-8", "/?access_token=a.b.%ff", nil, "", BadRequest},
		{"a parameter with a comma", "/?access_token=a.b.c%2cd", nil, "", BadRequest},
		{"one protocol twice", "/", []Header{field("sec-websocket-protocol", "bearer.a.b.c, bearer.a.b.c")}, "", BadRequest},
		{"a cookie that is not UTF-8", "/", []Header{field("cookie", "session=a.b.\xff")}, "", BadRequest},
		{"a cookie too large by one", "/", []Header{field("cookie", "session="+large+"a")}, "", BadRequest},
		{"a parameter too large by one", "/?access_token=" + large + "a", nil, "", BadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, reason := findBearer(&Request{Path: c.path, Headers: c.headers}, browserPlaces, DefaultMaxToken)
			if b.token != c.token || reason != c.reason {
				t.Errorf("path %q, headers %.200q: got %.80q and reason %q, want %.80q and %q", c.path, c.headers, b.token, reason, c.token, c.reason)
			}
		})
	}
}

// A policy reads the places that it lists, and no others.
func TestOtherPlacesHoldNoToken(t *testing.T) {
	r := &Request{Path: "/?access_token=a.b.c", Headers: []Header{field("cookie", "session=d.e.f"), field("authorization", "Bearer g.h.i")}}
	for want, places := range map[string][]Place{
		"a.b.c": {{Query: "access_token"}}, "d.e.f": {{Cookie: "session"}}, "g.h.i": nil,
	} {
		if b, reason := findBearer(r, placesOf(places), DefaultMaxToken); b.token != want || reason != "" {
			t.Errorf("places %+v: got %q and reason %q, want %q", places, b.token, reason, want)
		}
	}
}

func TestTheTokenIsHidden(t *testing.T) {
	cookies := []Header{field("cookie", "theme=dark; session=a.b.c"), field("Cookie", "session=; lang=\"en\"; bad=\xff")}
	protocols := []Header{field("Sec-WebSocket-Protocol", "chat, bearer.a.b.c,v2"), field("sec-websocket-protocol", "bearer.")}
	for _, c := range []struct {
		name    string
		places  []Place
		forward bool
		path    string
		headers []Header
		set     []Header
		remove  []string
		query   []string
	}{
		{"the Authorization header", nil, false, "/", []Header{field("authorization", "Bearer a.b.c")}, nil, []string{"authorization"}, nil},
		{"the Authorization header, forwarded", nil, true, "/", []Header{field("authorization", "Bearer a.b.c")}, nil, nil, nil},
		{"a header in every spelling", []Place{{Header: "X-Token"}}, false, "/", []Header{field("x-token", "a.b.c"), field("X_Token", "d.e.f"), field("x.token", "d.e.f"), field("x-tokens", "")}, nil, []string{"authorization", "x-token", "x.token", "x_token"}, nil},
		{"a header, forwarded", []Place{{Header: "x-token"}}, true, "/", []Header{field("x-token", "a.b.c"), field("authorization", "Basic eA")}, nil, []string{"authorization"}, nil},
		{"a cookie among others", browserPlaces, false, "/", cookies, []Header{{"cookie", `theme=dark; lang="en"`}}, []string{"authorization"}, nil},
		{"a cookie alone", browserPlaces, false, "/", []Header{field("cookie", "session=a.b.c; ")}, nil, []string{"authorization", "cookie"}, nil},
		{"a cookie, forwarded", browserPlaces, true, "/", cookies, nil, nil, nil},
		{"a parameter, as the request spells it", browserPlaces, false, "/?x=y&acc%65ss_token=a.b.c", nil, nil, []string{"authorization"}, []string{"acc%65ss_token"}},
		{"a parameter, forwarded", browserPlaces, true, "/?access_token=a.b.c", nil, nil, nil, nil},
		{"a protocol among others", browserPlaces, false, "/", protocols, []Header{{"sec-websocket-protocol", "chat, v2"}}, []string{"authorization"}, nil},
		{"a protocol alone", browserPlaces, false, "/", protocols[:1:1], []Header{{"sec-websocket-protocol", "chat, v2"}}, []string{"authorization"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := newHeaders(Headers{Claims: map[string]HeaderClaim{}, RemoveAuthorization: !c.forward})
			if err != nil {
				t.Fatal(err)
			}
			places := placesOf(c.places)
			b, reason := findBearer(&Request{Path: c.path, Headers: c.headers}, places, DefaultMaxToken)
			if b.token != "a.b.c" || reason != "" {
				t.Fatalf("got token %q and reason %q, want a.b.c", b.token, reason)
			}
			var d Decision
			h.hide(&d, places, c.headers, &b)
			h.apply(&d, c.headers, nil)
			if !slices.Equal(d.Set, c.set) || !slices.Equal(d.Remove, c.remove) || !slices.Equal(d.RemoveQuery, c.query) {
				t.Errorf("path %q, headers %q: set %q, removed %q and of the query %q; want %q, %q and %q", c.path, c.headers, d.Set, d.Remove, d.RemoveQuery, c.set, c.remove, c.query)
			}
		})
	}
}

func TestFaultyPlaces(t *testing.T) {
	for _, c := range []struct {
		fault  string
		places []Place
	}{
		{"exactly one", []Place{{}}},
		{"exactly one", []Place{{Header: "a", Query: "b"}}},
		{"only rescind may set the header x-jwt-token", []Place{{Header: "X-JWT-Token"}}},
		{"only rescind may set the header x_tenant", []Place{{Header: "x_tenant"}}},
		{"same token", []Place{{Cookie: "a"}, {Cookie: "a"}}},
		{"same token", []Place{{Header: "authorization"}, {Header: "Authorization", Scheme: "bearer"}}},
		{"same token", []Place{{WebSocketProtocol: "b."}, {WebSocketProtocol: "b.c."}}},
		{"scheme is for a header", []Place{{Cookie: "a", Scheme: "Bearer"}}},
	} {
		o := options(t)
		o.Headers.Claims = map[string]HeaderClaim{"x-tenant": {Claims: allNamed("tenant")}}
		o.Policies = map[string]Policy{DefaultPolicy: {TokensFrom: c.places}}
		if a, err := New(o); a != nil || err == nil || !strings.Contains(err.Error(), c.fault) {
			t.Errorf("places %+v: got %v and error %v, want an error with %q", c.places, a, err, c.fault)
		}
	}
	o := options(t)
	o.Headers.Claims = map[string]HeaderClaim{"cookie": {Claims: allNamed("sub")}}
	o.Policies = map[string]Policy{DefaultPolicy: {TokensFrom: []Place{{Cookie: "a"}}}}
	if _, err := New(o); err == nil {
		t.Error("a cookie as a place, and cookie as a managed header: got no fault, want one")
	}
}

// The standard library reads cookies and queries as well. A token that findBearer
// takes is one that the library sees under this name, and the only one.
func FuzzFindBearer(f *testing.F) {
	for _, s := range [][3]string{
		{"/?access_token=a.b.c", "", ""}, {"/?access_token=a&access%5ftoken=b", "", ""}, {"/?a=b;access_token=c", "", ""},
		{"/", "session=a.b.c; x=y", ""}, {"/", "session=a,session=b", ""}, {"/", `session="a"; session=`, ""}, {"/", "a=b; session = c", ""},
		{"/", "", "chat, bearer.a.b.c"}, {"/", "", "bearer.a,bearer.b"}, {"/?access_token=%", "\xff", "bearer.\xff"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	places := placesOf([]Place{{Cookie: "session"}, {Query: "access_token"}, {WebSocketProtocol: "bearer."}})
	rules, err := newHeaders(Headers{RemoveAuthorization: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, cookie, protocols string) {
		headers := []Header{field("cookie", cookie), field("sec-websocket-protocol", protocols)}
		r := &Request{Path: path, Headers: headers}
		b, reason := findBearer(r, places, DefaultMaxToken)
		if reason != "" {
			if b.token != "" || reason != NoToken && reason != BadRequest {
				t.Errorf("path %q, headers %q: got token %q with reason %q, want no token and the reason %q or %q", path, headers, b.token, reason, NoToken, BadRequest)
			}
			return
		}
		if b.token == "" || len(b.token) > DefaultMaxToken || !utf8.ValidString(b.token) || strings.Contains(b.token, ",") {
			t.Errorf("path %q, headers %q: got token %q, want none, or one that can be read", path, headers, b.token)
		}
		before, _, _ := strings.Cut(path, "#")
		_, query, _ := strings.Cut(before, "?")
		if values, err := url.ParseQuery(query); err == nil && slices.ContainsFunc(values["access_token"], func(v string) bool { return v != "" && v != b.token }) {
			t.Errorf("path %q: got token %q beside others in %q, want %s", path, b.token, values["access_token"], BadRequest)
		}
		for _, seen := range (&http.Request{Header: http.Header{"Cookie": {cookie}}}).CookiesNamed("session") {
			if v := trimmed(seen.Value); v != "" && unquoted(v) != b.token {
				t.Errorf("cookies %q: got token %q beside %q, want %s", cookie, b.token, seen.Value, BadRequest)
			}
		}
		// The upstream sees the token nowhere.
		var d Decision
		rules.hide(&d, places, headers, &b)
		after := &Request{Path: path}
		for name, values := range upstream(headers, d.Set, d.Remove) {
			after.Headers = append(after.Headers, field(name, values[0]))
		}
		if len(d.RemoveQuery) > 0 {
			after.Path = "/"
		}
		if again, _ := findBearer(after, places, DefaultMaxToken); again.token != "" {
			t.Errorf("path %q, headers %q: the upstream finds token %q in %q, want none", path, headers, again.token, after.Headers)
		}
		for _, h := range d.Set {
			if !utf8.ValidString(h.Value) || h.Value == "" {
				t.Errorf("headers %q: set %q, want texts in UTF-8", headers, d.Set)
			}
		}
	})
}

// A token of this size with a signature that no key made: the most that one
// request of an attacker costs.
func BenchmarkLargeToken(b *testing.B) {
	o := options(b, rsaKey())
	o.Issuers[0].MaxToken = MaxToken
	a, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1 << 10, DefaultMaxToken, MaxToken} {
		for name, claim := range map[string]any{"text": strings.Repeat("x", size/4*3-600), "members": slices.Repeat([]any{map[string]any{"a": 1}}, (size/4*3-600)/8)} {
			b.Run(name+"/"+strconv.Itoa(size), func(b *testing.B) {
				token := rsaKey().token(map[string]any{"pad": claim})
				r := carrying(token[:len(token)-4] + "AAAA")
				b.ReportAllocs()
				for b.Loop() {
					if d := a.Authorize(b.Context(), r); d.Reason != BadSignature {
						b.Fatalf("got %s (%s) for %d bytes, want %s", d.Reason, d.Detail, len(token), BadSignature)
					}
				}
			})
		}
	}
}
