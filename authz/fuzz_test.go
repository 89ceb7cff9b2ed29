package authz

import (
	"encoding/hex"
	"strings"
	"testing"
)

// A hash that is read from x-forwarded-client-cert stands in it. Another element,
// or a second header, makes it uncertain.
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
			t.Errorf("x-forwarded-client-cert %q: got hash %x, want one that stands in it", value, got)
		}
		for _, more := range [][]Header{append(one, one[0]), append(one, field("X-FORWARDED-CLIENT-CERT", "")), {field("x-forwarded-client-cert", value+",By=x")}, {field("x-forwarded-client-cert", "Hash="+sum+","+value)}} {
			if _, ok := forwardedCertificate(more); ok {
				t.Errorf("x-forwarded-client-cert %q: got a hash, want none of two elements", more)
			}
		}
	})
}
