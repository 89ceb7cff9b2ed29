package gate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"rescind/authz"
)

// Denial is the HTTP response to a denied request.
type Denial struct {
	Code    int32 // of gRPC, never 0
	Status  int   // of HTTP, at least 400
	Headers []authz.Header
	Body    string // JSON
}

// DenialOf returns the response to a request that d denies.
func DenialOf(d *authz.Decision) Denial {
	a := d.Answer()
	denial := Denial{Code: a.Code, Status: a.HTTP, Body: body(a), Headers: []authz.Header{
		{Name: "content-type", Value: "application/json"},
		{Name: "cache-control", Value: "no-store"},
		{Name: "www-authenticate", Value: challenge(a, d.Challenge)},
	}}
	if a.RetryAfter > 0 {
		denial.Headers = append(denial.Headers, authz.Header{Name: "retry-after", Value: strconv.Itoa(int(a.RetryAfter.Seconds()))})
	}
	return denial
}

// challenge returns the WWW-Authenticate of RFC 6750, section 3, with the
// parameters of RFC 9728 and RFC 9470. Its parts are constants and texts of the
// configuration that need no escape.
func challenge(a authz.Answer, c authz.Challenge) string {
	var b strings.Builder
	fmt.Fprintf(&b, `Bearer realm="%s"`, cmp.Or(c.Realm, authz.DefaultRealm))
	for _, p := range []struct{ name, value string }{
		{"error", a.Error}, {"error_description", a.Description},
		{"scope", c.Scope}, {"acr_values", c.ACRValues}, {"resource_metadata", c.ResourceMetadata},
	} {
		if p.value != "" && (p.name != "error_description" || a.Error != "") {
			fmt.Fprintf(&b, `, %s="%s"`, p.name, p.value)
		}
	}
	return b.String()
}

func body(a authz.Answer) string {
	text, err := json.Marshal(struct {
		Error       string `json:"error,omitempty"`
		Description string `json:"error_description"`
	}{a.Error, a.Description})
	if err != nil { // impossible for two strings
		return "{}"
	}
	return string(text)
}
