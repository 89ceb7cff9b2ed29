package jwt

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

var b64 = base64.RawURLEncoding

// compact returns a token of these two texts, with a signature that no key made.
func compact(header, payload string) string {
	return b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + ".c2ln"
}

const (
	plainHeader  = `{"alg":"RS256","kid":"k1"}`
	plainPayload = `{"iss":"https://idp.example/","sub":"alice","exp":1764000000}`
)

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

func TestParseSegments(t *testing.T) {
	good := compact(plainHeader, plainPayload)
	h, p, s := b64.EncodeToString([]byte(plainHeader)), b64.EncodeToString([]byte(plainPayload)), "c2ln"
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"a token", good, nil},
		{"empty", "", FlawSegments},
		{"two segments", h + "." + p, FlawSegments},
		{"four segments", good + "." + s, FlawSegments},
		{"five segments, an encrypted one", good + "." + s + "." + s, FlawSegments},
		{"no header", "." + p + "." + s, FlawSegments},
		{"no payload", h + ".." + s, FlawSegments},
		{"no signature", h + "." + p + ".", FlawSegments},
		{"dots alone", "..", FlawSegments},
		{"padding", h + "==." + p + "." + s, FlawSegments},
		{"the other alphabet, +", h + "." + p + ".c2+n", FlawSegments},
		{"the other alphabet, /", h + "." + p + ".c2/n", FlawSegments},
		{"LF inside", h + "." + p[:4] + "\n" + p[4:] + "." + s, FlawSegments},
		{"CR inside", h + "." + p[:4] + "\r" + p[4:] + "." + s, FlawSegments},
		{"CRLF at the end", good + "\r\n", FlawSegments},
		{"a space at the end", good + " ", FlawSegments},
		{"a tab", "\t" + good, FlawSegments},
		{"NUL", h + "." + p + ".c2\x00n", FlawSegments},
		{"not ASCII", h + "." + p + ".c2é", FlawSegments},
		{"trailing bits in the signature", h + "." + p + ".c2lnZh", FlawBase64},
		{"the same signature without them", h + "." + p + ".c2lnZg", nil},
		{"trailing bits in the header", h[:len(h)-1] + string(h[len(h)-1]+1) + "." + p + "." + s, FlawBase64},
		{"an impossible length", h + "." + p + ".c2lnZ", FlawBase64},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(c.raw); !errors.Is(err, c.want) {
				t.Errorf("Parse(%q): got error %v, want %v", c.raw, err, c.want)
			}
		})
	}
}

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         error
	}{
		{"the least", `{"alg":"RS256"}`, nil},
		{"spaces around colons", "{ \"alg\" : \"RS256\" ,\n\t\"kid\" : \"k1\" }", nil},
		{"members that are ignored", `{"alg":"RS256","jwk":{"kty":"oct"},"jku":"https://evil.example/","x5u":"u","x5c":["c"],"x5t":"t","cty":"JWT","nonce":1}`, nil},
		{"escapes", `{"alg":"\u0052S256"}`, nil},
		{"a kid of 256 characters", `{"alg":"RS256","kid":"` + strings.Repeat("é", 256) + `"}`, nil},
		{"typ", `{"alg":"RS256","typ":"at+jwt"}`, nil},

		{"no object", `"alg"`, FlawHeader},
		{"an array", `[{"alg":"RS256"}]`, FlawHeader},
		{"null", `null`, FlawHeader},
		{"nothing", ` `, FlawHeader},
		{"not JSON", `{"alg":"RS256"`, FlawHeader},
		{"a comma too many", `{"alg":"RS256",}`, FlawHeader},
		{"a comment", `{"alg":"RS256"/**/}`, FlawHeader},
		{"something after it", `{"alg":"RS256"}{}`, FlawHeader},
		{"a NUL after it", "{\"alg\":\"RS256\"}\x00", FlawHeader},
		{"a byte order mark", "\ufeff" + `{"alg":"RS256"}`, FlawHeader},
		{"alg twice", `{"alg":"none","alg":"RS256"}`, FlawHeader},
		{"alg twice, once escaped", `{"alg":"none","\u0061lg":"RS256"}`, FlawHeader},
		{"duplicates further down", `{"alg":"RS256","jwk":{"a":1,"a":2}}`, FlawHeader},
		{"not UTF-8", "{\"alg\":\"RS256\",\"kid\":\"\xff\"}", FlawHeader},
		{"half a surrogate pair", `{"alg":"RS256","kid":"\ud800"}`, FlawHeader},
		{"too deep", `{"alg":"RS256","x":` + nested(32) + `}`, FlawDepth},

		{"crit", `{"alg":"RS256","crit":["exp"],"exp":1}`, FlawExtension},
		{"crit, empty", `{"alg":"RS256","crit":[]}`, FlawExtension},
		{"crit, null", `{"alg":"RS256","crit":null}`, FlawExtension},
		{"b64", `{"alg":"RS256","b64":false}`, FlawExtension},
		{"b64, true", `{"alg":"RS256","b64":true}`, FlawExtension},
		{"zip", `{"alg":"RS256","zip":"DEF"}`, FlawExtension},
		{"enc", `{"alg":"RS256","enc":"A128GCM"}`, FlawExtension},
		{"CRIT", `{"alg":"RS256","CRIT":["x"]}`, FlawLookalike},
		{"a second Alg", `{"alg":"RS256","Alg":"none"}`, FlawLookalike},
		{"Kid with a Kelvin sign", `{"alg":"RS256","` + "\u212a" + `id":"k2"}`, FlawLookalike},

		{"no alg", `{"kid":"k1"}`, FlawAlgorithm},
		{"alg null", `{"alg":null}`, FlawAlgorithm},
		{"alg a number", `{"alg":256}`, FlawAlgorithm},
		{"alg an array", `{"alg":["RS256"]}`, FlawAlgorithm},

		{"kid empty", `{"alg":"RS256","kid":""}`, FlawKeyID},
		{"kid null", `{"alg":"RS256","kid":null}`, FlawKeyID},
		{"kid a number", `{"alg":"RS256","kid":1}`, FlawKeyID},
		{"kid of 257 characters", `{"alg":"RS256","kid":"` + strings.Repeat("k", 257) + `"}`, FlawKeyID},

		{"typ empty", `{"alg":"RS256","typ":""}`, FlawType},
		{"typ nothing but the prefix", `{"alg":"RS256","typ":"application/"}`, FlawType},
		{"typ null", `{"alg":"RS256","typ":null}`, FlawType},
		{"typ an array", `{"alg":"RS256","typ":["JWT"]}`, FlawType},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(compact(c.header, plainPayload)); !errors.Is(err, c.want) {
				t.Errorf("header %.200s: got error %v, want %v", c.header, err, c.want)
			}
		})
	}
}

func TestParsePayload(t *testing.T) {
	for _, c := range []struct {
		name, payload string
		want          error
	}{
		{"a usual one", `{"iss":"i","sub":"alice","aud":["api"],"exp":1764000000,"iat":1763999000,"nbf":0,"jti":"1","realm_access":{"roles":["a","b"]},"email_verified":true,"nothing":null}`, nil},
		{"spaces around colons", "{ \"iss\" : \"i\", \"exp\" : 1764000000 }\n", nil},
		{"32 deep", `{"iss":"i","x":` + nested(31) + `}`, nil},
		{"names that are not registered, in several cases", `{"iss":"i","Roles":1,"roles":2,"EMAIL":"x","groupſ":1}`, nil},
		{"a name that contains a registered one", `{"iss":"i","Xsub":1,"sub_":2,"SUBJECT":3}`, nil},
		{"no iss, which the decision refuses", `{"exp":1}`, nil},
		{"no exp, which the decision refuses", `{"iss":"i"}`, nil},
		{"exp 0, which the decision refuses", `{"iss":"i","exp":0}`, nil},
		{"exp with a fraction", `{"iss":"i","exp":1764000000.25}`, nil},
		{"exp with an exponent", `{"iss":"i","exp":1.764e9}`, nil},
		{"exp 2^40", `{"iss":"i","exp":1099511627776}`, nil},
		{"a sub that is a number", `{"iss":"i","sub":17}`, nil},
		{"replacement characters that were always there", `{"iss":"i","sub":"` + "\ufffd" + `"}`, nil},

		{"null", `null`, FlawPayload},
		{"a string", `"x"`, FlawPayload},
		{"an array", `[]`, FlawPayload},
		{"nothing", ` `, FlawPayload},
		{"not JSON", `iss=i`, FlawPayload},
		{"cut off", `{"iss":"i","exp":1`, FlawPayload},
		{"something after it", `{"iss":"i"} x`, FlawPayload},
		{"sub twice", `{"sub":"alice","iss":"i","sub":"root"}`, FlawPayload},
		{"sub twice, once escaped", `{"sub":"alice","iss":"i","s\u0075b":"root"}`, FlawPayload},
		{"duplicates further down", `{"iss":"i","a":[{"b":{"c":1,"c":1}}]}`, FlawPayload},
		{"not UTF-8 in a value", "{\"iss\":\"i\",\"sub\":\"\xff\"}", FlawPayload},
		{"not UTF-8 in a name", "{\"iss\":\"i\",\"\xfe\":1}", FlawPayload},
		{"an overlong encoding", "{\"iss\":\"i\",\"sub\":\"\xc0\xaf\"}", FlawPayload},
		{"half a surrogate pair", `{"iss":"i","sub":"\udc00"}`, FlawPayload},
		{"NaN", `{"iss":"i","exp":NaN}`, FlawPayload},
		{"Infinity", `{"iss":"i","exp":Infinity}`, FlawPayload},
		{"a number with a leading zero", `{"iss":"i","exp":01764000000}`, FlawPayload},
		{"a number with a plus", `{"iss":"i","exp":+1}`, FlawPayload},
		{"33 deep", `{"iss":"i","x":` + nested(32) + `}`, FlawDepth},
		{"very deep", `{"iss":"i","x":` + nested(5000) + `}`, FlawDepth},

		{"SUB", `{"iss":"i","SUB":"root"}`, FlawLookalike},
		{"SUB beside sub", `{"iss":"i","sub":"alice","SUB":"root"}`, FlawLookalike},
		{"iſs", `{"iss":"i","iſs":"j"}`, FlawLookalike},
		{"Exp", `{"iss":"i","Exp":1}`, FlawLookalike},
		{"ſUB", `{"iss":"i","ſUB":"root"}`, FlawLookalike},
		{"Cnf", `{"iss":"i","Cnf":{}}`, FlawLookalike},
		{"Scope, escaped", `{"iss":"i","\u0053cope":"admin"}`, FlawLookalike},

		{"iss a number", `{"iss":1}`, FlawIssuer},
		{"iss null", `{"iss":null}`, FlawIssuer},
		{"iss an array", `{"iss":["i"]}`, FlawIssuer},

		{"exp a string", `{"iss":"i","exp":"1764000000"}`, FlawDate},
		{"exp null", `{"iss":"i","exp":null}`, FlawDate},
		{"exp true", `{"iss":"i","exp":true}`, FlawDate},
		{"exp negative", `{"iss":"i","exp":-1}`, FlawDate},
		{"exp above 2^40", `{"iss":"i","exp":1099511627777}`, FlawDate},
		{"exp beyond int64", `{"iss":"i","exp":9223372036854775808}`, FlawDate},
		{"exp beyond float64", `{"iss":"i","exp":1e400}`, FlawDate},
		{"iat a string", `{"iss":"i","iat":"1"}`, FlawDate},
		{"iat an object", `{"iss":"i","iat":{}}`, FlawDate},
		{"iat negative", `{"iss":"i","iat":-1}`, FlawDate},
		{"nbf null", `{"iss":"i","nbf":null}`, FlawDate},
		{"nbf beyond int64, which wraps into the past", `{"iss":"i","nbf":9223372036854775808}`, FlawDate},
		{"nbf far beyond int64", `{"iss":"i","nbf":1e30}`, FlawDate},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(compact(plainHeader, c.payload)); !errors.Is(err, c.want) {
				t.Errorf("payload %.200s: got error %v, want %v", c.payload, err, c.want)
			}
		})
	}
}

func TestParseReads(t *testing.T) {
	raw := compact(`{"alg":"ES256","kid":"k1","typ":"application/AT+JWT"}`, `{"iss":"i","exp":10.5,"iat":9,"big":12345678901234567890,"a":["x",1,true,null,{"b":[]}]}`)
	got, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &Token{
		Algorithm: "ES256", KeyID: "k1", Type: "at+jwt", Issuer: "i",
		Claims: map[string]any{
			"iss": "i", "exp": json.Number("10.5"), "iat": json.Number("9"), "big": json.Number("12345678901234567890"),
			"a": []any{"x", json.Number("1"), true, nil, map[string]any{"b": []any{}}},
		},
		Expires: Date{10_500_000, true}, IssuedAt: Date{9_000_000, true},
		Signed: raw[:strings.LastIndexByte(raw, '.')], Signature: []byte("sig"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A flaw quotes nothing of the token, because it is logged.
func TestFlawsQuoteNothing(t *testing.T) {
	const secret = "5ecret"
	for _, payload := range []string{`{"5ecret":1,"5ecret":2}`, `{"iss":{"5ecret":1}}`, `5ecret`, `{"exp":"5ecret"}`} {
		if _, err := Parse(compact(plainHeader, payload)); err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("payload %s: got error %v, want one without %q", payload, err, secret)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(plainHeader, plainPayload, "sig")
	f.Add(`{"alg":"RS256","alg":"none"}`, `{"iss":"i","ISS":"j"}`, "")
	f.Add(`{"alg":"ES256","crit":[]}`, `{"exp":1e400}`, "\xff")
	f.Add(`{"alg":"ES256","typ":"application/"}`, `{"exp":-0,"a":{"a":[[]]}}`, "\xff")
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		raw := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + "." + b64.EncodeToString([]byte(signature))
		got, err := Parse(raw)
		// The reader's memory is used again, and headers are remembered.
		if _, err := Parse(compact(plainHeader, strings.Repeat(" ", len(payload))+plainPayload)); err != nil {
			t.Errorf("another token: got error %v, want none", err)
		}
		if again, other := Parse(strings.Clone(raw)); !reflect.DeepEqual(again, got) || !errors.Is(other, err) {
			t.Errorf("%q was read as %+v (%v) and again as %+v (%v), want the same", raw, got, err, again, other)
		}
		if err != nil {
			if !errors.As(err, new(Flaw)) {
				t.Errorf("%q: got error %v of type %T, want a Flaw", raw, err, err)
			}
			if v := jsontext.Value(payload); errors.Is(err, FlawPayload) && v.IsValid() && v.Kind() == '{' {
				t.Errorf("payload %q: got error %v, want none, because it is a valid object", payload, err)
			}
			return
		}
		again := got.Signed + "." + b64.EncodeToString(got.Signature)
		if again != raw || !utf8.ValidString(header) || !utf8.ValidString(payload) {
			t.Errorf("header %q, payload %q: %q was read as %q, want the same token in UTF-8", header, payload, raw, again)
		}
		// The standard library reads every accepted token in the same way.
		var standard map[string]any
		d := json.NewDecoder(strings.NewReader(payload))
		d.UseNumber()
		if err := d.Decode(&standard); err != nil || !reflect.DeepEqual(standard, got.Claims) {
			t.Errorf("payload %q: got %v, want %v (%v), as the standard library reads it", payload, got.Claims, standard, err)
		}
		var registered struct {
			Iss, Sub any
			Exp      any
		}
		d = json.NewDecoder(strings.NewReader(payload))
		d.UseNumber()
		if err := d.Decode(&registered); err != nil || !reflect.DeepEqual(registered.Sub, got.Claims["sub"]) || !reflect.DeepEqual(registered.Exp, got.Claims["exp"]) {
			t.Errorf("payload %q: got %v, want %+v (%v), as the standard library reads it into a struct", payload, got.Claims, registered, err)
		}
	})
}

func FuzzParseRaw(f *testing.F) {
	f.Add(compact(plainHeader, plainPayload))
	f.Add("..")
	f.Add("a.b.c\n")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := Parse(raw)
		if err == nil && got.Signed+"."+b64.EncodeToString(got.Signature) != raw {
			t.Errorf("%q was read as %q, want the same token", raw, got.Signed+"."+b64.EncodeToString(got.Signature))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	raw := compact(plainHeader, `{"iss":"https://idp.example/","sub":"alice","aud":"api","jti":"t1","iat":1764000000,"exp":1764000300,"scope":"openid profile","realm_access":{"roles":["a","b","c"]},"azp":"web","sid":"3f2a","email":"alice@example.com"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}
