package control

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation"
)

// describe completes the description of the API. It adds the bodies of the POST,
// which this package reads more strictly than huma does, and the answers that
// share an operation.
func describe(api *huma.OpenAPI) {
	schemas := api.Components.Schemas
	ref := func(v any) *huma.Schema { return schemas.Schema(reflect.TypeOf(v), true, "") }
	schemas.Map()["Request"] = requestSchema()
	request := &huma.Schema{Ref: "#/components/schemas/Request"}
	answer := func(status int, s *huma.Schema) *huma.Response {
		return &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{typeJSON: {Schema: s}}}
	}

	post := api.Paths["/v1/revocations"].Post
	post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		typeJSON: {Schema: request},
		typeNDJSON: {Schema: &huma.Schema{Type: huma.TypeString,
			Description: "One Request a line, at most 100,000 lines. All of them are accepted, or none"}},
	}}
	document, imported := ref(Document{}), ref(Import{})
	post.Responses["200"] = answer(http.StatusOK, &huma.Schema{AnyOf: []*huma.Schema{document, ref(ImpactDocument{})}})
	for _, status := range []int{http.StatusCreated, http.StatusAccepted} {
		headers := post.Responses[strconv.Itoa(http.StatusCreated)].Headers
		r := answer(status, &huma.Schema{AnyOf: []*huma.Schema{document, imported}})
		r.Headers = headers
		post.Responses[strconv.Itoa(status)] = r
	}
	api.Paths["/v1/revocations/{id}"].Delete.Responses["202"] = answer(http.StatusAccepted, ref(Restoration{}))
	api.Paths["/v1/revocations"].Delete.Responses["202"] = answer(http.StatusAccepted, ref(WriteRestoration{}))
}

func requestSchema() *huma.Schema {
	most := func(n int) *int { return &n }
	instant := func(doc string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Format: "date-time", Description: doc}
	}
	truth := func(doc string) *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean, Description: doc} }
	s := &huma.Schema{
		Type:                 huma.TypeObject,
		AdditionalProperties: false,
		Description:          "A request for a revocation",
		Properties: map[string]*huma.Schema{
			"issuer": {Type: huma.TypeString, MaxLength: most(revocation.MaxIssuer), Description: "The iss of the tokens, byte for byte; left out beside token, which has it"},
			"claims": {Type: huma.TypeObject, MinProperties: most(1), MaxProperties: most(revocation.MaxClaims),
				Description: "Equalities, all of which must hold. Values are compared by the text that is shown for them, so \"12345\" matches the number 12345 and the reverse. " +
					"A claim that is an array matches if any element does, and scope and scp match by each word. client_id also matches azp, cid and appid. " +
					"A name that begins with / is a JSON Pointer (RFC 6901) to a nested claim: /realm_access/roles",
				AdditionalProperties: &huma.Schema{OneOf: []*huma.Schema{
					{Type: huma.TypeString, MinLength: most(1), MaxLength: most(revocation.MaxValue)}, {Type: huma.TypeNumber}, {Type: huma.TypeBoolean}}}},
			"kid":           {Type: huma.TypeString, MinLength: most(1), MaxLength: most(revocation.MaxKeyID), Description: "Every token signed by this key"},
			"token":         {Type: huma.TypeString, MinLength: most(1), MaxLength: most(revocation.MaxToken), Description: "A raw JWT; it is never stored"},
			"all":           truth("true: every token of the issuer"),
			"issued_before": instant("Tokens with an earlier iat are denied, and those without one"),
			"block":         truth("Denies tokens with any iat"),
			"expires_at":    instant("Past it the revocation is gone"),
			"reason":        {Type: huma.TypeString, MaxLength: most(revocation.MaxReason)},
		},
	}
	for _, form := range []string{"claims", "kid", "token", "all"} {
		s.OneOf = append(s.OneOf, &huma.Schema{Required: []string{form}})
	}
	return s
}
