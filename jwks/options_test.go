package jwks

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	good := Options{Issuer: idp, URI: "https://idp.example/jwks"}
	for _, c := range []struct {
		name   string
		change func(*Options)
		faults []string
	}{
		{"good", func(*Options) {}, nil},
		{"discovery", func(o *Options) { o.URI, o.Discovery = "", true }, nil},
		{"a file", func(o *Options) { o.URI, o.File = "", "keys.json" }, nil},
		{"an issuer that is no URL, with jwks_uri", func(o *Options) { o.Issuer = "accounts.example" }, nil},
		{"loopback by IPv4", func(o *Options) { o.URI = "http://127.0.0.1:8080/jwks" }, nil},
		{"loopback by IPv6", func(o *Options) { o.URI = "http://[::1]:8080/jwks" }, nil},
		{"loopback by name", func(o *Options) { o.URI = "http://localhost/jwks" }, nil},
		{"http where it is allowed", func(o *Options) { o.URI, o.AllowHTTP = "http://idp.example/jwks", true }, nil},
		{"max_stale", func(o *Options) { o.MaxStale = time.Hour }, nil},
		{"a long min_refresh_interval", func(o *Options) { o.MinRefreshInterval = time.Hour }, nil},
		{"a short max_stale", func(o *Options) { o.MaxStale = time.Second }, nil},
		{"a short refresh_interval", func(o *Options) { o.RefreshInterval = time.Second }, nil},

		{"no issuer", func(o *Options) { o.Issuer = "" }, []string{"issuer is empty"}},
		{"no source", func(o *Options) { o.URI = "" }, []string{"exactly one"}},
		{"two sources", func(o *Options) { o.Discovery = true }, []string{"exactly one"}},
		{"http", func(o *Options) { o.URI = "http://idp.example/jwks" }, []string{"allow_http"}},
		{"a host that looks like loopback", func(o *Options) { o.URI = "http://127.0.0.1.evil.example/" }, []string{"allow_http"}},
		{"a host that is called like it", func(o *Options) { o.URI = "http://localhost.evil.example/" }, []string{"allow_http"}},
		{"http for discovery", func(o *Options) { o.Issuer, o.URI, o.Discovery = "http://idp.example/", "", true }, []string{"allow_http"}},
		{"discovery of a name that is no URL", func(o *Options) { o.Issuer, o.URI, o.Discovery = "accounts.example", "", true }, []string{"not an https URL"}},
		{"discovery with a query", func(o *Options) { o.Issuer, o.URI, o.Discovery = "https://idp.example/?a", "", true }, []string{"query"}},
		{"discovery with a fragment", func(o *Options) { o.Issuer, o.URI, o.Discovery = "https://idp.example/#a", "", true }, []string{"fragment"}},
		{"a scheme of another kind", func(o *Options) { o.URI, o.AllowHTTP = "ftp://idp.example/jwks", true }, []string{"not an https URL"}},
		{"no host", func(o *Options) { o.URI = "https:///jwks" }, []string{"not an https URL"}},
		{"no URL at all", func(o *Options) { o.URI = "http://[::1" }, []string{"not a URL"}},
		{"a password in it", func(o *Options) { o.URI = "https://user:geheim@idp.example/jwks" }, []string{"logged"}},
		{"none", func(o *Options) { o.Algorithms = []string{"RS256", "none"} }, []string{`"none"`}},
		{"HS256", func(o *Options) { o.Algorithms = []string{"HS256"} }, []string{`"HS256"`}},
		{"no algorithms", func(o *Options) { o.Algorithms = []string{} }, []string{"algorithms is empty"}},
		{"negative", func(o *Options) { o.MaxStale = -1 }, []string{"max_stale must be 0 or more"}},
		{"a CA file that is not there", func(o *Options) { o.CAFile = filepath.Join(t.TempDir(), "ca.pem") }, []string{"ca_file", "no such file"}},
		{"a CA file without certificates", func(o *Options) { o.CAFile = "options_test.go" }, []string{"ca_file", "no certificate"}},
		{"several at once", func(o *Options) { o.Issuer, o.Algorithms, o.MaxStale = "", []string{"HS256"}, -1 }, []string{"issuer is empty", "HS256", "max_stale must be 0 or more"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.change(&o)
			err := o.Validate()
			if (err == nil) != (c.faults == nil) {
				t.Fatalf("got error %v, want faults %q", err, c.faults)
			}
			if c.faults != nil {
				if k, openErr := Open(o); openErr == nil {
					k.Close()
					t.Errorf("Open: got no error, want faults %q", c.faults)
				}
			}
			for _, fault := range c.faults {
				if !strings.Contains(err.Error(), fault) {
					t.Errorf("got error %v, want one with %q", err, fault)
				}
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("got error %v, want one without the password", err)
			}
		})
	}
}
