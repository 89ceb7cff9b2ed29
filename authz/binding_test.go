package authz

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/test/testcert"
)

func TestBoundTokens(t *testing.T) {
	ca := testcert.NewAuthority(t, "ca")
	der, another := ca.Issue(t, "client").Certificate[0], ca.Issue(t, "another").Certificate[0]
	sum, anotherSum := sha256.Sum256(der), sha256.Sum256(another)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	anotherText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: another}))
	x5t := map[string]any{"x5t#S256": b64.EncodeToString(sum[:])}
	hash, anotherHash := "Hash="+hex.EncodeToString(sum[:]), "Hash="+hex.EncodeToString(anotherSum[:])
	for _, c := range []struct {
		name        string
		cnf         any
		certificate string
		forwarded   []string
		trust       bool
		want        Reason
	}{
		{"not bound", nil, "", nil, false, OK},
		{"not bound, with a certificate", nil, url.PathEscape(text), nil, false, OK},
		{"proven", x5t, url.PathEscape(text), nil, false, OK},
		{"proven, as Envoy escapes", x5t, strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text), nil, false, OK},
		{"no certificate", x5t, "", nil, false, Unproven},
		{"another certificate", x5t, url.PathEscape(anotherText), nil, false, Unproven},
		{"two certificates", x5t, url.PathEscape(text + anotherText), nil, false, Unproven},
		{"not escaped right", x5t, "%zz" + url.PathEscape(text), nil, false, Unproven},
		{"no PEM", x5t, "certificate", nil, false, Unproven},
		{"PEM of something else", x5t, url.PathEscape(strings.ReplaceAll(text, "CERTIFICATE", "PUBLIC KEY")), nil, false, Unproven},

		{"a DPoP key", map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}, url.PathEscape(text), nil, false, Unproven},
		{"a DPoP key with another member", map[string]any{"jkt": "x", "kid": "y"}, url.PathEscape(text), nil, false, Unproven},
		{"proven, and bound to something else too", map[string]any{"x5t#S256": x5t["x5t#S256"], "jkt": "x"}, url.PathEscape(text), nil, false, Unproven},
		{"an embedded key", map[string]any{"jwk": map[string]any{"kty": "OKP"}}, url.PathEscape(text), nil, false, Unproven},
		{"nothing in it", map[string]any{}, url.PathEscape(text), nil, false, Unproven},
		{"no object", b64.EncodeToString(sum[:]), url.PathEscape(text), nil, false, Unproven},
		{"a hash with padding", map[string]any{"x5t#S256": b64.EncodeToString(sum[:]) + "="}, url.PathEscape(text), nil, false, Unproven},
		{"an empty hash", map[string]any{"x5t#S256": ""}, "", nil, false, Unproven},
		{"a hash of another length", map[string]any{"x5t#S256": b64.EncodeToString(sum[:31])}, url.PathEscape(text), nil, false, Unproven},
		{"a hash with a line break inside", map[string]any{"x5t#S256": b64.EncodeToString(sum[:])[:20] + "\n" + b64.EncodeToString(sum[:])[20:]}, url.PathEscape(text), nil, false, Unproven},
		{"a line break instead of the last character", map[string]any{"x5t#S256": b64.EncodeToString(sum[:31]) + "\n"}, url.PathEscape(text), nil, false, Unproven},
		{"the older hash, by its name", map[string]any{"x5t": x5t["x5t#S256"]}, url.PathEscape(text), nil, false, Unproven},
		{"the name in another case", map[string]any{"X5T#s256": x5t["x5t#S256"]}, url.PathEscape(text), nil, false, Unproven},
		{"an empty list", []any{}, url.PathEscape(text), nil, false, Unproven},
		{"a list of it", []any{x5t}, url.PathEscape(text), nil, false, Unproven},
		{"false", false, "", nil, false, Unproven},
		{"a hash that is no string", map[string]any{"x5t#S256": 1}, url.PathEscape(text), nil, false, Unproven},

		{"forwarded, where nobody trusts it", x5t, "", []string{hash}, false, Unproven},
		{"forwarded", x5t, "", []string{hash}, true, OK},
		{"forwarded, with more about it", x5t, "", []string{"By=spiffe://a/b;" + hash + `;Subject="CN=a,O=\"b;c\"";URI=x`}, true, OK},
		{"forwarded, in capitals", x5t, "", []string{strings.ToUpper(hash)}, true, OK},
		{"forwarded, in quotes", x5t, "", []string{`Hash="` + hex.EncodeToString(sum[:]) + `"`}, true, Unproven},
		{"forwarded, beside a certificate that fits, where nobody trusts it", x5t, url.PathEscape(text), []string{anotherHash}, false, OK},
		{"forwarded in front of a certificate that fits", x5t, url.PathEscape(text), []string{anotherHash}, true, Unproven},
		{"forwarded, another one", x5t, "", []string{anotherHash}, true, Unproven},
		{"forwarded by two hops", x5t, "", []string{hash + "," + anotherHash}, true, Unproven},
		{"forwarded by two hops, one without a hash", x5t, "", []string{hash + ",By=x"}, true, Unproven},
		{"forwarded in two headers", x5t, "", []string{hash, anotherHash}, true, Unproven},
		{"two hashes in one element", x5t, "", []string{hash + ";" + anotherHash}, true, Unproven},
		{"two hashes in one element, the right one last", x5t, "", []string{anotherHash + ";" + hash}, true, Unproven},
		{"a hash in two halves", x5t, "", []string{hash[:30] + ";Hash=" + hash[30:]}, true, Unproven},
		{"an empty hash before the right one", x5t, "", []string{"Hash=;" + hash}, true, Unproven},
		{"another hash behind an escaped quote", x5t, "", []string{`Subject="a\";` + anotherHash + `";` + hash}, true, OK},
		{"a hash within quotes", x5t, "", []string{`Subject="x;` + hash + `"`}, true, Unproven},
		{"an open quote", x5t, "", []string{hash + `;Subject="x`}, true, Unproven},
		{"no hash", x5t, "", []string{"By=x"}, true, Unproven},
		{"an empty header", x5t, "", []string{""}, true, Unproven},
		{"nothing forwarded, but a certificate of the hop before", x5t, url.PathEscape(text), nil, true, Unproven},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			o.TrustForwardedCertificate = c.trust
			r := carrying(edKey().token(map[string]any{"cnf": c.cnf}))
			r.Certificate = c.certificate
			for _, v := range c.forwarded {
				r.Headers = append(r.Headers, field("X-Forwarded-Client-Cert", v))
			}
			wantReason(t, c.name, authorizer(t, o).Authorize(t.Context(), r), c.want)
		})
	}
	t.Run("null is a binding too", func(t *testing.T) {
		key := edKey()
		payload := strings.Replace(changed(map[string]any{"iss": idp, "aud": "api", "exp": time.Now().Unix() + 60}, nil), "{", `{"cnf":null,`, 1)
		r := carrying(key.sign(changed(map[string]any{"alg": key.alg, "kid": key.kid}, nil), payload))
		wantReason(t, "cnf null", authorizer(t, options(t)).Authorize(t.Context(), r), Unproven)
	})
}
