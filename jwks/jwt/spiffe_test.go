package jwt

import (
	"strings"
	"testing"
)

func TestSPIFFEIssuer(t *testing.T) {
	for _, c := range []struct {
		sub  any
		want string
	}{
		{"spiffe://example.org/ns/default/sa/orders", "spiffe://example.org"},
		{"spiffe://a-b_c.9/x", "spiffe://a-b_c.9"},
		{"spiffe://" + strings.Repeat("d", 255) + "/x", "spiffe://" + strings.Repeat("d", 255)},

		{"spiffe://" + strings.Repeat("d", 256) + "/x", ""},
		{"spiffe://example.org/" + strings.Repeat("x", 2048), ""},
		{"spiffe://example.org", ""},
		{"spiffe://example.org/", ""},
		{"spiffe://example.org/a/", ""},
		{"spiffe://example.org//a", ""},
		{"spiffe://example.org/../a", ""},
		{"spiffe://example.org/a%2fb", ""},
		{"spiffe://example.org/a?b", ""},
		{"spiffe://Example.org/a", ""},
		{"SPIFFE://example.org/a", ""},
		{"spiffe://user@example.org/a", ""},
		{"spiffe://example.org:8443/a", ""},
		{"spiffe:///a", ""},
		{"https://example.org/a", ""},
		{"", ""},
		{7, ""},
		{nil, ""},
	} {
		if got := (&Token{Claims: map[string]any{"sub": c.sub}}).SPIFFEIssuer(); got != c.want {
			t.Errorf("sub %.80v: got %q, want %q", c.sub, got, c.want)
		}
	}
}

func TestIssuerName(t *testing.T) {
	const id = "spiffe://example.org/web"
	for _, c := range []struct {
		claims map[string]any
		want   string
	}{
		{map[string]any{"iss": "https://idp.example.com/", "sub": id}, "https://idp.example.com/"},
		{map[string]any{"sub": id}, "spiffe://example.org"},
		{map[string]any{"iss": "", "sub": id}, ""},
		{map[string]any{"sub": "alice"}, ""},
	} {
		issuer, _ := c.claims["iss"].(string)
		if got := (&Token{Issuer: issuer, Claims: c.claims}).IssuerName(); got != c.want {
			t.Errorf("%v: got %q, want %q", c.claims, got, c.want)
		}
	}
}
