package authz

import (
	"encoding/hex"
	"strings"
	"testing"
)

// A hash that is found in x-forwarded-client-cert stands in it, and another
// element, or a second header, takes the certainty away.
func FuzzForwarded(f *testing.F) {
	sum := strings.Repeat("ab", 32)
	for _, value := range []string{
		"Hash=" + sum, "By=spiffe://a;Hash=" + sum + `;Subject="CN=a,O=\"b;c\"";URI=x`, "hash=" + sum, "Hash=" + sum + ",Hash=" + sum,
		`Subject="x;Hash=` + sum + `"`, "Hash=" + sum + ";Hash=" + sum, `Hash="` + sum + `"`, "", ",", ";", `"`, `\"`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		one := []Header{field("x-forwarded-client-cert", value)}
		got, ok := forwardedCertificate(one)
		if !ok {
			return
		}
		if !strings.Contains(strings.ToLower(value), hex.EncodeToString(got[:])) {
			t.Errorf("%x is not in %q", got, value)
		}
		for _, more := range [][]Header{append(one, one[0]), append(one, field("X-FORWARDED-CLIENT-CERT", "")), {field("x-forwarded-client-cert", value+",By=x")}, {field("x-forwarded-client-cert", "Hash="+sum+","+value)}} {
			if _, ok := forwardedCertificate(more); ok {
				t.Errorf("%q names one certificate", more)
			}
		}
	})
}
