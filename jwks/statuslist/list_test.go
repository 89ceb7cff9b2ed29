package statuslist

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
)

// packed compresses with w.
func packed(statuses []byte, w func(io.Writer) io.WriteCloser) string {
	var b bytes.Buffer
	z := w(&b)
	_, _ = z.Write(statuses)
	_ = z.Close()
	return b64.EncodeToString(b.Bytes())
}

// A list is believed only if every rule of the draft holds. The good tokens at the
// end show that a row fails for its own reason.
func TestListTokens(t *testing.T) {
	keys, _ := keysOf(t, "a")
	t.Cleanup(keys.Close)
	waitForKeys(t, keys)
	o := newProvider().options(keys).withDefaults()
	now := time.Now().Unix()
	good := deflated([]byte{1})
	claims := func(changes map[string]any) string { return token(first, []byte{1}, changes) }
	list := func(members string) string {
		return sign("a", `{"alg":"EdDSA","kid":"a","typ":"statuslist+jwt"}`, fmt.Sprintf(`{"sub":%q,"iat":%d,"status_list":{%s}}`, first, now, members))
	}
	headed := func(header string) string {
		return sign("a", header, fmt.Sprintf(`{"sub":%q,"iat":%d,"status_list":{"bits":1,"lst":%q}}`, first, now, good))
	}
	for _, c := range []struct{ name, token, want string }{
		{"nothing", "", "not a Status List Token"},
		{"JSON", `{"bits":1,"lst":"eNrbuRgAAhcBXQ"}`, "not a Status List Token"},
		{"two tokens", claims(nil) + "\n" + claims(nil), "not a Status List Token"},
		{"padding", claims(nil) + "==", "not a Status List Token"},
		{"typ absent", headed(`{"alg":"EdDSA","kid":"a"}`), "typ"},
		{"typ of an access token", headed(`{"alg":"EdDSA","kid":"a","typ":"at+jwt"}`), "typ"},
		{"typ of a CWT", headed(`{"alg":"EdDSA","kid":"a","typ":"statuslist+cwt"}`), "typ"},
		{"alg none", headed(`{"alg":"none","kid":"a","typ":"statuslist+jwt"}`), "no such key"},
		{"alg HS256", headed(`{"alg":"HS256","kid":"a","typ":"statuslist+jwt"}`), "no such key"},
		{"crit", headed(`{"alg":"EdDSA","kid":"a","typ":"statuslist+jwt","crit":["x"]}`), "crit"},
		{"unknown kid", headed(`{"alg":"EdDSA","kid":"b","typ":"statuslist+jwt"}`), "no such key"},
		{"signed by another key", sign("b", `{"alg":"EdDSA","kid":"a","typ":"statuslist+jwt"}`, fmt.Sprintf(`{"sub":%q,"iat":%d,"status_list":{"bits":1,"lst":%q}}`, first, now, good)), "not made by this key"},
		{"changed after signing", tampered(claims(nil)), "not made by this key"},
		{"sub absent", claims(map[string]any{"sub": nil}), "sub"},
		{"sub of another list", claims(map[string]any{"sub": folder + "2"}), "sub"},
		{"sub in another case", claims(map[string]any{"sub": "https://IDP.example/lists/1"}), "sub"},
		{"sub with a slash more", claims(map[string]any{"sub": first + "/"}), "sub"},
		{"sub an object", claims(map[string]any{"sub": map[string]any{}}), "sub"},
		{"iss of another issuer", claims(map[string]any{"iss": "https://other.example/"}), "iss names another issuer"},
		{"iat absent", claims(map[string]any{"iat": nil}), "iat is missing"},
		{"iat in the future", claims(map[string]any{"iat": now + 60}), "iat is in the future"},
		{"iat a text", claims(map[string]any{"iat": "1"}), "iat"},
		{"nbf in the future", claims(map[string]any{"nbf": now + 60}), "nbf is in the future"},
		{"expired", claims(map[string]any{"exp": now - 1}), "expired"},
		{"expired within the leeway", claims(map[string]any{"exp": now}), "expired"},
		{"exp a text", claims(map[string]any{"exp": "soon"}), "exp"},
		{"ttl 0", claims(map[string]any{"ttl": 0}), "ttl"},
		{"ttl negative", claims(map[string]any{"ttl": -1}), "ttl"},
		{"ttl a text", claims(map[string]any{"ttl": "60"}), "ttl"},
		{"ttl beyond numbers", claims(map[string]any{"ttl": json.Number("1e999")}), "ttl"},
		{"ttl null", claims(map[string]any{"ttl": json.RawMessage("null")}), "ttl"},
		{"status_list absent", claims(map[string]any{"status_list": nil}), "status_list is not an object"},
		{"status_list an array", claims(map[string]any{"status_list": []any{}}), "status_list is not an object"},
		{"bits absent", list(`"lst":"` + good + `"`), "bits"},
		{"bits 0", list(`"bits":0,"lst":"` + good + `"`), "bits"},
		{"bits 3", list(`"bits":3,"lst":"` + good + `"`), "bits"},
		{"bits 16", list(`"bits":16,"lst":"` + good + `"`), "bits"},
		{"bits 1.0", list(`"bits":1.0,"lst":"` + good + `"`), "bits"},
		{"bits a text", list(`"bits":"1","lst":"` + good + `"`), "bits"},
		{"bits negative", list(`"bits":-1,"lst":"` + good + `"`), "bits"},
		{"bits twice", list(`"bits":1,"bits":2,"lst":"` + good + `"`), "duplicate"},
		{"lst absent", list(`"bits":1`), "lst"},
		{"lst an array", list(`"bits":1,"lst":[1]`), "lst"},
		{"lst empty", list(`"bits":1,"lst":""`), "zlib"},
		{"lst padded", list(`"bits":1,"lst":"` + good + `="`), "base64url"},
		{"lst with a line end", list(`"bits":1,"lst":"` + good + `\n"`), "base64url"},
		{"lst in base64", list(`"bits":1,"lst":"+/+/"`), "base64url"},
		{"lst raw deflate", list(`"bits":1,"lst":"` + packed([]byte{1}, func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, 9)) }) + `"`), "zlib"},
		{"lst gzip", list(`"bits":1,"lst":"` + packed([]byte{1}, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }) + `"`), "zlib"},
		{"lst with a dictionary", list(`"bits":1,"lst":"` + packed([]byte("abcabc"), func(w io.Writer) io.WriteCloser { return must(zlib.NewWriterLevelDict(w, 9, []byte("abc"))) }) + `"`), "zlib"},
		{"lst cut", list(`"bits":1,"lst":"` + b64.EncodeToString(must(b64.DecodeString(good))[:6]) + `"`), "zlib"},
		{"lst without its checksum", list(`"bits":1,"lst":"` + cut(good, 4) + `"`), "zlib"},
		{"lst with a wrong checksum", list(`"bits":1,"lst":"` + cut(good, 4) + "AAAAAA" + `"`), ""},
		{"lst with bytes behind", list(`"bits":1,"lst":"` + b64.EncodeToString(append(must(b64.DecodeString(good)), 0)) + `"`), "bytes behind"},
		{"a list that is too large", token(first, make([]byte, DefaultMaxInflated+1), nil), "max_inflated"},

		{"good", claims(nil), "ok"},
		{"good, with line ends", "\n" + claims(nil) + "\r\n", "ok"},
		{"good, with application/", headed(`{"alg":"EdDSA","kid":"a","typ":"application/StatusList+JWT"}`), "ok"},
		{"good, without a kid", headed(`{"alg":"EdDSA","typ":"statuslist+jwt"}`), "ok"},
		{"good, with every claim", claims(map[string]any{"iss": idp, "exp": now + 60, "nbf": now, "ttl": 60, "jti": "x", "status_list": map[string]any{"bits": 8, "lst": good, "aggregation_uri": "https://x/", "more": 1}}), "ok"},
		{"good, dated ahead within the leeway", claims(map[string]any{"iat": now + 20, "nbf": now + 20}), "ok"},
		{"good, empty", token(first, nil, nil), "ok"},
		{"good, as large as it may be", token(first, make([]byte, DefaultMaxInflated), nil), "ok"},
	} {
		l, err := o.read(t.Context(), c.token, first, time.Now())
		switch {
		case c.want == "ok" && (err != nil || l == nil):
			t.Errorf("%s: got error %v, want a list", c.name, err)
		case c.want != "ok" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
	}
	o.ForeignKeys = true
	if _, err := o.read(t.Context(), claims(map[string]any{"iss": "https://status.example/"}), first, time.Now()); err != nil {
		t.Errorf("iss of another party whose keys are configured: got error %v, want a list", err)
	}
}

// cut returns base64url without the last n bytes.
func cut(text string, n int) string {
	b := must(b64.DecodeString(text))
	return b64.EncodeToString(b[:len(b)-n])
}

// tampered returns a token with another iat under the old signature.
func tampered(token string) string {
	parts := strings.Split(token, ".")
	payload := bytes.Replace(must(b64.DecodeString(parts[1])), []byte(`"iat":`), []byte(`"iat":1`), 1)
	return parts[0] + "." + b64.EncodeToString(payload) + "." + parts[2]
}

// A list that inflates to far more than the bound costs no more than the bound.
func TestZipBomb(t *testing.T) {
	var b bytes.Buffer
	z := must(zlib.NewWriterLevel(&b, zlib.BestSpeed))
	zeros := make([]byte, 1<<20)
	for range 8 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	if b.Len() > DefaultMaxResponse {
		t.Fatalf("the bomb has %d bytes, want no more than an answer may have", b.Len())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := inflate(b.Bytes(), DefaultMaxInflated)
	runtime.ReadMemStats(&after)
	if err == nil || got != nil || !strings.Contains(err.Error(), "max_inflated") {
		t.Errorf("got %d bytes and error %v, want an error that names max_inflated", len(got), err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 6*DefaultMaxInflated {
		t.Errorf("got %d bytes allocated, want no more than a few times the bound", allocated)
	}
}

// at agrees with a list that was packed bit by bit.
func TestEveryPlace(t *testing.T) {
	for _, bits := range []int{1, 2, 4, 8} {
		want := make([]Status, 1000)
		statuses := make([]byte, len(want)*bits/8)
		for i := range want {
			want[i] = Status(rand.IntN(1 << bits))
			for b := range bits {
				if want[i]&(1<<b) != 0 {
					at := i*bits + b
					statuses[at/8] |= 1 << (at % 8)
				}
			}
		}
		l := &list{bits: uint64(bits), statuses: statuses}
		for i, w := range want {
			if got, err := l.at(uint64(i)); got != w || err != nil {
				t.Fatalf("bits %d, index %d: got %d and error %v, want %d", bits, i, got, err, w)
			}
		}
		for _, beyond := range []uint64{uint64(len(want)), 1 << 32, 1 << 63, 1<<64 - 1} {
			if got, err := l.at(beyond); got == Valid || !errors.Is(err, ErrOutOfRange) {
				t.Errorf("bits %d, index %d: got %d and error %v, want %v", bits, beyond, got, err, ErrOutOfRange)
			}
		}
	}
}

// FuzzListToken reads the payload of a token as a list that a bound key has signed.
// A list that is accepted fits its bounds, and gives a status at each of its places
// and none beyond.
func FuzzListToken(f *testing.F) {
	for _, lst := range []string{"eNrbuRgAAhcBXQ", "eNo76fITAAPfAgc", "", "eNo"} {
		f.Add(fmt.Sprintf(`{"sub":%q,"iat":1,"exp":99,"ttl":7,"status_list":{"bits":2,"lst":%q}}`, first, lst))
	}
	f.Add(`{"sub":"https://idp.example/lists/1","iat":1e0,"ttl":1e999,"status_list":{"bits":8,"lst":null}}`)
	o := Options{Issuer: idp, MaxInflated: 1 << 16}.withDefaults()
	f.Fuzz(func(t *testing.T, payload string) {
		tok, err := jwt.Parse(b64.EncodeToString([]byte(`{"alg":"EdDSA"}`)) + "." + b64.EncodeToString([]byte(payload)) + ".c2ln")
		if err != nil {
			return
		}
		now := time.Unix(50, 0)
		l, err := o.accept(tok, first, now, now)
		if err != nil {
			return
		}
		if len(l.statuses) > o.MaxInflated || l.ttl < 0 || !l.until.After(now) || l.until.After(now.Add(o.MaxAge)) || tok.Claims["sub"] != any(first) {
			t.Fatalf("%q: got %d bytes, ttl %v, until %v, want them within the bounds", payload, len(l.statuses), l.ttl, l.until)
		}
		if p := o.pause(l, now); p < o.MinRefresh*9/10 || p > o.MaxRefresh {
			t.Errorf("%q: got a pause of %v, want one within the bounds", payload, p)
		}
		n := uint64(l.entries())
		for _, i := range []uint64{0, n - 1, n, n + 7, 1<<64 - 1} {
			if s, err := l.at(i); (err == nil) != (i < n) || uint64(s) >= 1<<l.bits && err == nil {
				t.Errorf("%q at %d of %d: got %d and error %v", payload, i, n, s, err)
			}
		}
	})
}
