package authz

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

var b64 = base64.RawURLEncoding

// compact makes a token of these two texts, with a signature of no worth.
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

func TestGuardSegments(t *testing.T) {
	good := compact(plainHeader, plainPayload)
	h, p, s := b64.EncodeToString([]byte(plainHeader)), b64.EncodeToString([]byte(plainPayload)), "c2ln"
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"a token", good, nil},
		{"empty", "", flawSegments},
		{"two segments", h + "." + p, flawSegments},
		{"four segments", good + "." + s, flawSegments},
		{"five segments, an encrypted one", good + "." + s + "." + s, flawSegments},
		{"no header", "." + p + "." + s, flawSegments},
		{"no payload", h + ".." + s, flawSegments},
		{"no signature", h + "." + p + ".", flawSegments},
		{"dots alone", "..", flawSegments},
		{"padding", h + "==." + p + "." + s, flawSegments},
		{"the other alphabet, +", h + "." + p + ".c2+n", flawSegments},
		{"the other alphabet, /", h + "." + p + ".c2/n", flawSegments},
		{"LF inside", h + "." + p[:4] + "\n" + p[4:] + "." + s, flawSegments},
		{"CR inside", h + "." + p[:4] + "\r" + p[4:] + "." + s, flawSegments},
		{"CRLF at the end", good + "\r\n", flawSegments},
		{"a space at the end", good + " ", flawSegments},
		{"a tab", "\t" + good, flawSegments},
		{"NUL", h + "." + p + ".c2\x00n", flawSegments},
		{"not ASCII", h + "." + p + ".c2é", flawSegments},
		{"trailing bits in the signature", h + "." + p + ".c2lnZh", flawBase64},
		{"the same signature without them", h + "." + p + ".c2lnZg", nil},
		{"trailing bits in the header", h[:len(h)-1] + string(h[len(h)-1]+1) + "." + p + "." + s, flawBase64},
		{"an impossible length", h + "." + p + ".c2lnZ", flawBase64},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(c.raw); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestGuardHeader(t *testing.T) {
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

		{"no object", `"alg"`, flawHeader},
		{"an array", `[{"alg":"RS256"}]`, flawHeader},
		{"null", `null`, flawHeader},
		{"nothing", ` `, flawHeader},
		{"not JSON", `{"alg":"RS256"`, flawHeader},
		{"a comma too many", `{"alg":"RS256",}`, flawHeader},
		{"a comment", `{"alg":"RS256"/**/}`, flawHeader},
		{"something after it", `{"alg":"RS256"}{}`, flawHeader},
		{"a NUL after it", "{\"alg\":\"RS256\"}\x00", flawHeader},
		{"a byte order mark", "\ufeff" + `{"alg":"RS256"}`, flawHeader},
		{"alg twice", `{"alg":"none","alg":"RS256"}`, flawHeader},
		{"alg twice, once escaped", `{"alg":"none","\u0061lg":"RS256"}`, flawHeader},
		{"duplicates further down", `{"alg":"RS256","jwk":{"a":1,"a":2}}`, flawHeader},
		{"not UTF-8", "{\"alg\":\"RS256\",\"kid\":\"\xff\"}", flawHeader},
		{"half a surrogate pair", `{"alg":"RS256","kid":"\ud800"}`, flawHeader},
		{"too deep", `{"alg":"RS256","x":` + nested(32) + `}`, flawDepth},

		{"crit", `{"alg":"RS256","crit":["exp"],"exp":1}`, flawExtension},
		{"crit, empty", `{"alg":"RS256","crit":[]}`, flawExtension},
		{"crit, null", `{"alg":"RS256","crit":null}`, flawExtension},
		{"b64", `{"alg":"RS256","b64":false}`, flawExtension},
		{"b64, true", `{"alg":"RS256","b64":true}`, flawExtension},
		{"zip", `{"alg":"RS256","zip":"DEF"}`, flawExtension},
		{"enc", `{"alg":"RS256","enc":"A128GCM"}`, flawExtension},
		{"CRIT", `{"alg":"RS256","CRIT":["x"]}`, flawLookalike},
		{"a second Alg", `{"alg":"RS256","Alg":"none"}`, flawLookalike},
		{"Kid with a Kelvin sign", `{"alg":"RS256","` + "\u212a" + `id":"k2"}`, flawLookalike},

		{"no alg", `{"kid":"k1"}`, flawAlgorithm},
		{"alg null", `{"alg":null}`, flawAlgorithm},
		{"alg a number", `{"alg":256}`, flawAlgorithm},
		{"alg an array", `{"alg":["RS256"]}`, flawAlgorithm},

		{"kid empty", `{"alg":"RS256","kid":""}`, flawKeyID},
		{"kid null", `{"alg":"RS256","kid":null}`, flawKeyID},
		{"kid a number", `{"alg":"RS256","kid":1}`, flawKeyID},
		{"kid of 257 characters", `{"alg":"RS256","kid":"` + strings.Repeat("k", 257) + `"}`, flawKeyID},

		{"typ empty", `{"alg":"RS256","typ":""}`, flawType},
		{"typ nothing but the prefix", `{"alg":"RS256","typ":"application/"}`, flawType},
		{"typ null", `{"alg":"RS256","typ":null}`, flawType},
		{"typ an array", `{"alg":"RS256","typ":["JWT"]}`, flawType},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(compact(c.header, plainPayload)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestGuardPayload(t *testing.T) {
	for _, c := range []struct {
		name, payload string
		want          error
	}{
		{"a usual one", `{"iss":"i","sub":"alice","aud":["api"],"exp":1764000000,"iat":1763999000,"nbf":0,"jti":"1","realm_access":{"roles":["a","b"]},"email_verified":true,"nothing":null}`, nil},
		{"spaces around colons", "{ \"iss\" : \"i\", \"exp\" : 1764000000 }\n", nil},
		{"32 deep", `{"iss":"i","x":` + nested(31) + `}`, nil},
		{"names in other cases that nobody registered", `{"iss":"i","Roles":1,"roles":2,"EMAIL":"x","groupſ":1}`, nil},
		{"a name that contains a registered one", `{"iss":"i","Xsub":1,"sub_":2,"SUBJECT":3}`, nil},
		{"no iss, which is for the issuer to refuse", `{"exp":1}`, nil},
		{"no exp, which is for required claims to refuse", `{"iss":"i"}`, nil},
		{"exp 0, which is for the clock to refuse", `{"iss":"i","exp":0}`, nil},
		{"exp with a fraction", `{"iss":"i","exp":1764000000.25}`, nil},
		{"exp with an exponent", `{"iss":"i","exp":1.764e9}`, nil},
		{"exp 2^40", `{"iss":"i","exp":1099511627776}`, nil},
		{"a sub that is a number", `{"iss":"i","sub":17}`, nil},
		{"replacement characters that were always there", `{"iss":"i","sub":"` + "\ufffd" + `"}`, nil},

		{"null", `null`, flawPayload},
		{"a string", `"x"`, flawPayload},
		{"an array", `[]`, flawPayload},
		{"nothing", ` `, flawPayload},
		{"not JSON", `iss=i`, flawPayload},
		{"cut off", `{"iss":"i","exp":1`, flawPayload},
		{"something after it", `{"iss":"i"} x`, flawPayload},
		{"sub twice", `{"sub":"alice","iss":"i","sub":"root"}`, flawPayload},
		{"sub twice, once escaped", `{"sub":"alice","iss":"i","s\u0075b":"root"}`, flawPayload},
		{"duplicates further down", `{"iss":"i","a":[{"b":{"c":1,"c":1}}]}`, flawPayload},
		{"not UTF-8 in a value", "{\"iss\":\"i\",\"sub\":\"\xff\"}", flawPayload},
		{"not UTF-8 in a name", "{\"iss\":\"i\",\"\xfe\":1}", flawPayload},
		{"an overlong encoding", "{\"iss\":\"i\",\"sub\":\"\xc0\xaf\"}", flawPayload},
		{"half a surrogate pair", `{"iss":"i","sub":"\udc00"}`, flawPayload},
		{"NaN", `{"iss":"i","exp":NaN}`, flawPayload},
		{"Infinity", `{"iss":"i","exp":Infinity}`, flawPayload},
		{"a number with a leading zero", `{"iss":"i","exp":01764000000}`, flawPayload},
		{"a number with a plus", `{"iss":"i","exp":+1}`, flawPayload},
		{"33 deep", `{"iss":"i","x":` + nested(32) + `}`, flawDepth},
		{"very deep", `{"iss":"i","x":` + nested(5000) + `}`, flawDepth},

		{"SUB", `{"iss":"i","SUB":"root"}`, flawLookalike},
		{"SUB beside sub", `{"iss":"i","sub":"alice","SUB":"root"}`, flawLookalike},
		{"iſs", `{"iss":"i","iſs":"j"}`, flawLookalike},
		{"Exp", `{"iss":"i","Exp":1}`, flawLookalike},
		{"ſUB", `{"iss":"i","ſUB":"root"}`, flawLookalike},
		{"Cnf", `{"iss":"i","Cnf":{}}`, flawLookalike},
		{"Scope, escaped", `{"iss":"i","\u0053cope":"admin"}`, flawLookalike},

		{"iss a number", `{"iss":1}`, flawIssuer},
		{"iss null", `{"iss":null}`, flawIssuer},
		{"iss an array", `{"iss":["i"]}`, flawIssuer},

		{"exp a string", `{"iss":"i","exp":"1764000000"}`, flawDate},
		{"exp null", `{"iss":"i","exp":null}`, flawDate},
		{"exp true", `{"iss":"i","exp":true}`, flawDate},
		{"exp negative", `{"iss":"i","exp":-1}`, flawDate},
		{"exp above 2^40", `{"iss":"i","exp":1099511627777}`, flawDate},
		{"exp beyond int64", `{"iss":"i","exp":9223372036854775808}`, flawDate},
		{"exp beyond float64", `{"iss":"i","exp":1e400}`, flawDate},
		{"iat a string", `{"iss":"i","iat":"1"}`, flawDate},
		{"iat an object", `{"iss":"i","iat":{}}`, flawDate},
		{"iat negative", `{"iss":"i","iat":-1}`, flawDate},
		{"nbf null", `{"iss":"i","nbf":null}`, flawDate},
		{"nbf beyond int64, which wraps into the past", `{"iss":"i","nbf":9223372036854775808}`, flawDate},
		{"nbf far beyond int64", `{"iss":"i","nbf":1e30}`, flawDate},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(compact(plainHeader, c.payload)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestGuardReads(t *testing.T) {
	raw := compact(`{"alg":"ES256","kid":"k1","typ":"application/AT+JWT"}`, `{"iss":"i","exp":10.5,"iat":9,"big":12345678901234567890,"a":["x",1,true,null,{"b":[]}]}`)
	got, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &token{
		algorithm: "ES256", keyID: "k1", typ: "at+jwt", issuer: "i",
		claims: map[string]any{
			"iss": "i", "exp": json.Number("10.5"), "iat": json.Number("9"), "big": json.Number("12345678901234567890"),
			"a": []any{"x", json.Number("1"), true, nil, map[string]any{"b": []any{}}},
		},
		expires: date{10_500_000, true}, issuedAt: date{9_000_000, true},
		signed: raw[:strings.LastIndexByte(raw, '.')], signature: []byte("sig"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// A flaw must not carry what it found: it is logged.
func TestFlawsSayNothingOfTheToken(t *testing.T) {
	const secret = "5ecret"
	for _, payload := range []string{`{"5ecret":1,"5ecret":2}`, `{"iss":{"5ecret":1}}`, `5ecret`, `{"exp":"5ecret"}`} {
		if _, err := parse(compact(plainHeader, payload)); err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(plainHeader, plainPayload, "sig")
	f.Add(`{"alg":"RS256","alg":"none"}`, `{"iss":"i","ISS":"j"}`, "")
	f.Add(`{"alg":"ES256","crit":[]}`, `{"exp":1e400}`, "\xff")
	f.Add(`{"alg":"ES256","typ":"application/"}`, `{"exp":-0,"a":{"a":[[]]}}`, "\xff")
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		raw := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + "." + b64.EncodeToString([]byte(signature))
		got, err := parse(raw)
		if err != nil {
			if !errors.As(err, new(flaw)) {
				t.Errorf("%T is no flaw", err)
			}
			return
		}
		again := got.signed + "." + b64.EncodeToString(got.signature)
		if again != raw || !utf8.ValidString(header) || !utf8.ValidString(payload) {
			t.Errorf("%q was read as %q", raw, again)
		}
		// Whatever was accepted, the standard library reads the same.
		var standard map[string]any
		d := json.NewDecoder(strings.NewReader(payload))
		d.UseNumber()
		if err := d.Decode(&standard); err != nil || !reflect.DeepEqual(standard, got.claims) {
			t.Errorf("%q was read as %v, and elsewhere as %v (%v)", payload, got.claims, standard, err)
		}
		var registered struct {
			Iss, Sub any
			Exp      any
		}
		d = json.NewDecoder(strings.NewReader(payload))
		d.UseNumber()
		if err := d.Decode(&registered); err != nil || !reflect.DeepEqual(registered.Sub, got.claims["sub"]) || !reflect.DeepEqual(registered.Exp, got.claims["exp"]) {
			t.Errorf("%q into a struct: %+v (%v)", payload, registered, err)
		}
	})
}

func FuzzGuardRaw(f *testing.F) {
	f.Add(compact(plainHeader, plainPayload))
	f.Add("..")
	f.Add("a.b.c\n")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parse(raw)
		if err == nil && got.signed+"."+b64.EncodeToString(got.signature) != raw {
			t.Errorf("%q was read as another token", raw)
		}
	})
}
