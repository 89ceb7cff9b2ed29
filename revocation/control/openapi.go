package control

import (
	"maps"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation"
)

// The groups of operations in the description of the API.
const (
	tagRevocations = "revocations"
	tagAudit       = "audit"
	tagReplicas    = "replicas"
	tagTraffic     = "traffic"
	tagIntakes     = "intakes"
)

var tags = []*huma.Tag{
	{Name: tagRevocations, Description: "Revoke, undo, and list"},
	{Name: tagAudit, Description: "All changes and attempts, with their callers"},
	{Name: tagReplicas, Description: "The replicas that follow"},
	{Name: tagTraffic, Description: "The traffic that the replicas saw lately"},
	{Name: tagIntakes, Description: "The events of identity providers that become revocations"},
}

// describe completes the description of the API. It adds the bodies of the POST,
// which this package reads more strictly than huma does, and the answers that
// share an operation.
func describe(api *huma.OpenAPI) {
	schemas := api.Components.Schemas
	ref := func(v any) *huma.Schema { return schemas.Schema(reflect.TypeOf(v), true, "") }
	for name, s := range requestSchemas() {
		schemas.Map()[name] = s
	}
	request := &huma.Schema{Ref: "#/components/schemas/Request"}
	answer := func(status int, s *huma.Schema) *huma.Response {
		return &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{typeJSON: {Schema: s}}}
	}

	post := api.Paths["/v1/revocations"].Post
	post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		typeJSON: {Schema: request},
		typeNDJSON: {Schema: &huma.Schema{Type: huma.TypeString,
			Description: "One Request a line, at most 100,000 lines. All of them are accepted, or none. An import of a credential that is not an operator waits for the lines of its imports before, at 2,000 lines a second, and for no longer than its own lines take"}},
	}}
	for _, p := range api.Paths["/v1/revocations"].Get.Parameters {
		if p.Name == "claim" { // claimFilter enforces it, with a better message
			p.Schema.Items.Pattern = claimPattern
		}
	}
	document, imported := ref(Document{}), ref(Import{})
	post.Responses["200"] = answer(http.StatusOK, &huma.Schema{AnyOf: []*huma.Schema{document, ref(ImpactDocument{})}})
	byID := map[string]any{"id": "$response.body#/id"}
	for _, status := range []int{http.StatusCreated, http.StatusAccepted} {
		headers := post.Responses[strconv.Itoa(http.StatusCreated)].Headers
		r := answer(status, &huma.Schema{AnyOf: []*huma.Schema{document, imported}})
		r.Headers = headers
		r.Links = map[string]*huma.Link{
			"show":    {OperationID: "show", Parameters: byID, Description: "The revocation"},
			"restore": {OperationID: "restore", Parameters: byID, Description: "Undoes it"},
			"restore_write": {OperationID: restoreWriteOperation, Parameters: map[string]any{"revision": "$response.body#/revision"},
				Description: "Undoes all that the request revoked"},
		}
		post.Responses[strconv.Itoa(status)] = r
	}
	api.Paths["/v1/revocations/{id}"].Delete.Responses["202"] = answer(http.StatusAccepted, ref(Restoration{}))
	api.Paths["/v1/revocations"].Delete.Responses["202"] = answer(http.StatusAccepted, ref(WriteRestoration{}))
}

// requestSchemas returns the schemas of a request for a revocation. A token names
// its issuer itself; every other target needs one.
func requestSchemas() map[string]*huma.Schema {
	most := func(n int) *int { return &n }
	text := func(least, most int, doc string) *huma.Schema {
		s := &huma.Schema{Type: huma.TypeString, MaxLength: &most, Description: doc}
		if least > 0 {
			s.MinLength = &least
		}
		return s
	}
	token := text(1, revocation.MaxToken, "A raw JWT; it is never stored")
	token.Pattern = `^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`
	instant := func(doc string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Format: "date-time", Description: doc}
	}
	needs := func(members ...string) *huma.Schema { return &huma.Schema{Required: members} }
	request := func(doc, required string, properties map[string]*huma.Schema, never ...*huma.Schema) *huma.Schema {
		maps.Copy(properties, map[string]*huma.Schema{
			"issued_before": instant("Tokens with an earlier iat are denied, and those without one"),
			"block":         {Type: huma.TypeBoolean, Description: "Denies tokens with any iat; not beside issued_before"},
			"expires_at":    instant("Past it the revocation is gone"),
			"reason":        text(0, revocation.MaxReason, ""),
		})
		cutOffBlock := needs("block", "issued_before")
		cutOffBlock.Properties = map[string]*huma.Schema{"block": {Enum: []any{true}}}
		return &huma.Schema{Type: huma.TypeObject, Description: doc, AdditionalProperties: false, Required: []string{required},
			Properties: properties, Not: &huma.Schema{AnyOf: append(never, cutOffBlock)}}
	}
	claims := &huma.Schema{Type: huma.TypeObject, MinProperties: most(1), MaxProperties: most(revocation.MaxClaims),
		Description: "Equalities, all of which must hold. Values are compared by the text that is shown for them, so \"12345\" matches the number 12345 and the reverse. " +
			"A claim that is an array matches if any element does, and scope and scp match by each word. client_id also matches azp, cid and appid. " +
			"A name that begins with / is a JSON Pointer (RFC 6901) to a nested claim: /realm_access/roles",
		AdditionalProperties: &huma.Schema{OneOf: []*huma.Schema{text(1, revocation.MaxValue, ""), {Type: huma.TypeNumber, Format: "double"}, {Type: huma.TypeBoolean}}}}
	return map[string]*huma.Schema{
		"Request": {Description: "A request for a revocation", OneOf: []*huma.Schema{
			{Ref: "#/components/schemas/TargetRequest"}, {Ref: "#/components/schemas/TokenRequest"}}},
		"TargetRequest": request("Revokes the tokens of an issuer that have these claims, were signed by this key, or all. Exactly one of claims, kid and all is needed", "issuer",
			map[string]*huma.Schema{
				"issuer": text(1, revocation.MaxIssuer, "The iss of the tokens, byte for byte"),
				"claims": claims,
				"kid":    text(1, revocation.MaxKeyID, "Every token signed by this key"),
				"all":    {Type: huma.TypeBoolean, Enum: []any{true}, Description: "Every token of the issuer"},
			}, needs("claims", "kid"), needs("claims", "all"), needs("kid", "all"),
			&huma.Schema{Not: &huma.Schema{AnyOf: []*huma.Schema{needs("claims"), needs("kid"), needs("all")}}}),
		"TokenRequest": request("Revokes one token", "token", map[string]*huma.Schema{
			"issuer": text(1, revocation.MaxIssuer, "The iss of the token, byte for byte; may be left out, because the token has it"),
			"token":  token,
		}),
	}
}
