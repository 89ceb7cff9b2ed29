package statuslist

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"rescind/jwks/jwt"
)

func claimsOf(t *testing.T, payload string) map[string]any {
	t.Helper()
	tok, err := jwt.Parse(b64.EncodeToString([]byte(`{"alg":"EdDSA"}`)) + "." + b64.EncodeToString([]byte(payload)) + ".c2ln")
	if err != nil {
		t.Skip(err)
	}
	return tok.Claims
}

func TestReferences(t *testing.T) {
	at := func(place string) string { return `{"status":{"status_list":` + place + `}}` }
	for _, c := range []struct {
		claims string
		want   error // nil: the reference is 7 in first
	}{
		{at(`{"idx":7,"uri":"` + first + `"}`), nil},
		{at(`{"uri":"` + first + `","idx":7,"more":[1]}`), nil},
		{`{"status":{"other":1,"status_list":{"idx":7,"uri":"` + first + `"}}}`, nil},
		{`{"status":null}`, FlawStatus}, {`{"status":"active"}`, FlawStatus}, {`{"status":[]}`, FlawStatus}, {`{"status":7}`, FlawStatus},
		{`{"status":{}}`, FlawNoList}, {`{"status":{"identifier_list":{"id":"x"}}}`, FlawNoList}, {`{"status":{"STATUS_LIST":{"idx":7,"uri":"x"}}}`, FlawNoList},
		{at(`null`), FlawList}, {at(`"x"`), FlawList}, {at(`[]`), FlawList}, {at(`{}`), FlawList}, {at(`{"idx":7}`), FlawList}, {at(`{"uri":"x"}`), FlawList},
		{at(`{"IDX":7,"uri":"x"}`), FlawList},
		{at(`{"idx":-1,"uri":"x"}`), FlawIndex}, {at(`{"idx":-0,"uri":"x"}`), FlawIndex}, {at(`{"idx":7.0,"uri":"x"}`), FlawIndex}, {at(`{"idx":7e0,"uri":"x"}`), FlawIndex},
		{at(`{"idx":"7","uri":"x"}`), FlawIndex}, {at(`{"idx":null,"uri":"x"}`), FlawIndex}, {at(`{"idx":true,"uri":"x"}`), FlawIndex},
		{at(`{"idx":18446744073709551616,"uri":"x"}`), FlawIndex}, {at(`{"idx":1e400,"uri":"x"}`), FlawIndex},
		{at(`{"idx":7,"uri":7}`), FlawURI}, {at(`{"idx":7,"uri":""}`), FlawURI}, {at(`{"idx":7,"uri":null}`), FlawURI}, {at(`{"idx":7,"uri":["x"]}`), FlawURI},
		{at(`{"idx":7,"uri":"a b"}`), FlawURI}, {at(`{"idx":7,"uri":"a\u0000"}`), FlawURI}, {at(`{"idx":7,"uri":"é"}`), FlawURI}, {at(`{"idx":7,"uri":"` + strings.Repeat("x", 2049) + `"}`), FlawURI},
	} {
		ref, present, err := ReferenceOf(claimsOf(t, c.claims))
		if !errors.Is(err, c.want) || !present || err == nil && ref != (Reference{first, 7}) {
			t.Errorf("%s: got %+v, present %v, error %v; want error %v", c.claims, ref, present, err, c.want)
		}
	}
	if ref, present, err := ReferenceOf(map[string]any{"sub": "x"}); present || err != nil || ref != (Reference{}) {
		t.Errorf("without the claim: got %+v, %v, %v, want nothing", ref, present, err)
	}
}

// FuzzReference wants that a claim gives exactly the reference that its text
// names, or a flaw that quotes nothing of it.
func FuzzReference(f *testing.F) {
	for _, text := range []string{`{"status_list":{"idx":7,"uri":"https://idp.example/lists/1"}}`, `null`, `{"status_list":{"idx":1e3,"uri":""}}`, `[]`, `{"x":{}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, present, err := ReferenceOf(claimsOf(t, `{"status":`+text+`}`))
		if !present {
			t.Fatalf("%q: got no claim, want one", text)
		}
		var flaw Flaw
		if err != nil {
			if !errors.As(err, &flaw) || ref.URI != "" && flaw != FlawURI {
				t.Errorf("%q: got %+v and error %v, want a flaw", text, ref, err)
			}
			return
		}
		var again struct {
			List struct {
				Index uint64 `json:"idx"`
				URI   string `json:"uri"`
			} `json:"status_list"`
		}
		if err := json.Unmarshal([]byte(text), &again); err != nil || ref.URI == "" || len(ref.URI) > maxURI {
			t.Errorf("%q: got %+v (again %+v, %v), want the reference of the text", text, ref, again, err)
		}
	})
}
