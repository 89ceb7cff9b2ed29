package gate

import (
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
		{Name: "www-authenticate", Value: challenge(a, d.Scope)},
	}}
	if a.RetryAfter > 0 {
		denial.Headers = append(denial.Headers, authz.Header{Name: "retry-after", Value: strconv.Itoa(int(a.RetryAfter.Seconds()))})
	}
	return denial
}

// challenge returns the WWW-Authenticate of RFC 6750, section 3. Its parts are
// constants and scopes of the configuration, so none needs an escape.
func challenge(a authz.Answer, scope string) string {
	var b strings.Builder
	b.WriteString(`Bearer realm="rescind"`)
	if a.Error != "" {
		fmt.Fprintf(&b, `, error="%s", error_description="%s"`, a.Error, a.Description)
	}
	if scope != "" {
		fmt.Fprintf(&b, `, scope="%s"`, scope)
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
