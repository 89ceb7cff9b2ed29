package secevent

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestReadSubject(t *testing.T) {
	user := Subject{Format: IssSub, Issuer: "i", Value: "u"}
	long := strings.Repeat("v", maxValue)
	for _, c := range []struct {
		name, text string
		want       *Subject // nil: it is refused
	}{
		{"iss_sub", `{"format":"iss_sub","iss":"i","sub":"u"}`, &user},
		{"the older name of format", `{"subject_type":"iss_sub","iss":"i","sub":"u"}`, &user},
		{"the older spelling", `{"subject_type":"iss-sub","iss":"i","sub":"u"}`, &user},
		{"unknown members", `{"format":"iss_sub","iss":"i","sub":"u","x":1}`, &user},
		{"iss_sub without iss", `{"format":"iss_sub","sub":"u"}`, nil},
		{"iss_sub without sub", `{"format":"iss_sub","iss":"i"}`, nil},
		{"an empty sub", `{"format":"iss_sub","iss":"i","sub":""}`, nil},
		{"a sub that is a number", `{"format":"iss_sub","iss":"i","sub":1}`, nil},
		{"email", `{"format":"email","email":"a@b.c"}`, &Subject{Format: Email, Value: "a@b.c"}},
		{"opaque", `{"format":"opaque","id":"x"}`, &Subject{Format: Opaque, Value: "x"}},
		{"the longest id", `{"format":"opaque","id":"` + long + `"}`, &Subject{Format: Opaque, Value: long}},
		{"an id that is too long", `{"format":"opaque","id":"` + long + `v"}`, nil},
		{"phone_number", `{"format":"phone_number","phone_number":"+1206"}`, &Subject{Format: PhoneNumber, Value: "+1206"}},
		{"phone-number", `{"subject_type":"phone-number","phone_number":"+1206"}`, &Subject{Format: PhoneNumber, Value: "+1206"}},
		{"account", `{"format":"account","uri":"acct:a@b.c"}`, &Subject{Format: Account, Value: "acct:a@b.c"}},
		{"uri", `{"format":"uri","uri":"https://u"}`, &Subject{Format: URI, Value: "https://u"}},
		{"did", `{"format":"did","url":"did:x:1"}`, &Subject{Format: DID, Value: "did:x:1"}},
		{"jwt_id", `{"format":"jwt_id","iss":"i","jti":"j"}`, &Subject{Format: TokenID, Issuer: "i", Value: "j"}},
		{"saml_assertion_id", `{"format":"saml_assertion_id","issuer":"i","assertion_id":"a"}`, &Subject{Format: SAML, Issuer: "i", Value: "a"}},
		{"ip-addresses", `{"format":"ip-addresses","ip-addresses":["10.0.0.1"]}`, &Subject{Format: "ip_addresses"}},
		{"id_token_claims", `{"subject_type":"id_token_claims","iss":"i","sub":"u"}`, &Subject{Format: "id_token_claims"}},
		{"aliases", `{"format":"aliases","identifiers":[{"format":"iss_sub","iss":"i","sub":"u"},{"format":"email","email":"a@b.c"}]}`, &Subject{Format: Aliases, Aliases: []Subject{user, {Format: Email, Value: "a@b.c"}}}},
		{"no alias", `{"format":"aliases","identifiers":[]}`, nil},
		{"an alias of aliases", `{"format":"aliases","identifiers":[{"format":"aliases","identifiers":[{"format":"opaque","id":"x"}]}]}`, nil},
		{"a complex alias", `{"format":"aliases","identifiers":[{"user":{"format":"opaque","id":"x"}}]}`, nil},
		{"a malformed alias", `{"format":"aliases","identifiers":[{"format":"opaque"}]}`, nil},
		{"17 aliases", `{"format":"aliases","identifiers":[` + strings.Repeat(`{"format":"opaque","id":"x"},`, 16) + `{"format":"opaque","id":"x"}]}`, nil},
		{"complex", `{"format":"complex","user":{"format":"iss_sub","iss":"i","sub":"u"},"session":{"format":"opaque","id":"s"}}`, &Subject{Format: Complex, Members: map[string]Subject{User: user, Session: {Format: Opaque, Value: "s"}}}},
		{"complex without format", `{"user":{"format":"iss_sub","iss":"i","sub":"u"}}`, &Subject{Format: Complex, Members: map[string]Subject{User: user}}},
		{"a custom member", `{"format":"complex","badge":{"format":"opaque","id":"s"},"note":"text"}`, &Subject{Format: Complex, Members: map[string]Subject{"badge": {Format: Opaque, Value: "s"}}}},
		{"aliases of a user", `{"format":"complex","user":{"format":"aliases","identifiers":[{"format":"iss_sub","iss":"i","sub":"u"}]}}`, &Subject{Format: Complex, Members: map[string]Subject{User: {Format: Aliases, Aliases: []Subject{user}}}}},
		{"complex within complex", `{"format":"complex","user":{"user":{"format":"opaque","id":"x"}}}`, nil},
		{"complex without members", `{"format":"complex"}`, nil},
		{"a user that is a text", `{"format":"complex","user":"u","session":{"format":"opaque","id":"s"}}`, nil},
		{"17 members", `{"format":"complex"` + seventeen() + `}`, nil},
		{"custom members without format", `{"badge":{"format":"opaque","id":"s"}}`, nil},
		{"a format that is null", `{"format":null,"id":"x"}`, nil},
		{"a text", `"u"`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadSubject(token(t, typed, `{"s":`+c.text+`}`).Claims["s"])
			if (c.want == nil) != (err != nil) || c.want != nil && !reflect.DeepEqual(got, *c.want) {
				t.Errorf("ReadSubject(%s): got %+v and the error %v, want %+v", c.text, got, err, c.want)
			}
		})
	}
}

func seventeen() string {
	var b strings.Builder
	for i := range 17 {
		b.WriteString(`,"m` + strconv.Itoa(i) + `":{"format":"opaque","id":"x"}`)
	}
	return b.String()
}
