package revocation

import (
	"strings"
	"testing"
)

func TestCheckIssuer(t *testing.T) {
	for _, c := range []struct{ issuer, fault string }{
		{"https://idp.example.com/", ""},
		{"http://127.0.0.1:8080", ""},
		{"acme.com", ""},
		{"accounts.google.com", ""},
		{"robot@project.iam.gserviceaccount.com", ""},
		{"kubernetes/serviceaccount", ""},
		{"urn:example:sts", ""},
		{"did:web:example.com", ""},
		{"spiffe://example.org", ""},
		{"idp.example.com:8443", ""},
		{"Acme Identity", ""},
		{"ftp://idp", ""},
		{strings.Repeat("i", MaxIssuer), ""},

		{"", "is empty"},
		{strings.Repeat("i", MaxIssuer+1), "has 1025 bytes; at most 1024"},
		{"acme.com ", "begins or ends with a space"},
		{"acme\n.com", "not printable"},
		{"acme\u202e.com", "not printable"},
		{"acme\xff", "not valid UTF-8"},
		{":8443", "is not a URI"},
		{"10.0.0.1:8443", "is not a URI"},
		{"Acme: Identity", "is not a URI"},
		{"https://idp .example.com/", "is not a URI"},
		{"https:///a", "without a host"},
		{"https:idp.example.com", "without a host"},
		{"https://a:x/", "is not a URI"},
		{"https://user:secret@idp.example.com/", "a user name or a password"},
		{"https://idp.example.com/#a", "a fragment"},
	} {
		err := CheckIssuer(c.issuer)
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("CheckIssuer(%.60q): got %v, want an error with %q", c.issuer, err, c.fault)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("CheckIssuer(%.60q): got %v, want an error that does not show the password", c.issuer, err)
		}
	}
}
