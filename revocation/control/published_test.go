package control

import (
	"bytes"
	"mime"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"rescind/revocation/ledger/ledgertest"
)

// schemas are those of /openapi.json, compiled as they are asked for.
var schemas struct {
	sync.Mutex
	doc      any
	compiler *jsonschema.Compiler
}

// published compares an answer with the description of the API. The description
// declares every status, and every body fits its schema.
func (e *endpoint) published(r *http.Request, w *httptest.ResponseRecorder) {
	e.t.Helper()
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		return
	}
	schemas.Lock()
	defer schemas.Unlock()
	if schemas.doc == nil {
		rec := httptest.NewRecorder()
		e.server.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
		doc, err := jsonschema.UnmarshalJSON(rec.Body)
		if err != nil {
			e.t.Fatal(err)
		}
		schemas.doc, schemas.compiler = doc, jsonschema.NewCompiler()
		schemas.compiler.AssertFormat()
		if err := schemas.compiler.AddResource("http://control/openapi.json", doc); err != nil {
			e.t.Fatal(err)
		}
	}
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1/revocations/") {
		path = "/v1/revocations/{id}"
	}
	operation, ok := dig(schemas.doc, "paths", path, strings.ToLower(r.Method))
	if !ok {
		if w.Code != 404 && w.Code != 405 && w.Code != 401 {
			e.t.Errorf("%s %s, which is not described: got status %d, want 401, 404 or 405", r.Method, path, w.Code)
		}
		return
	}
	media, _, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil {
		e.t.Errorf("%s %s: got Content-Type %q, want a media type: %v", r.Method, path, w.Header().Get("Content-Type"), err)
	}
	if want := map[bool]string{true: "application/problem+json", false: "application/json"}[w.Code >= 400]; media != want {
		e.t.Errorf("%s %s with status %d: got %s, want %s", r.Method, path, w.Code, media, want)
	}
	status := strconv.Itoa(w.Code)
	if _, ok := dig(operation, "responses", status, "content", media, "schema"); !ok {
		e.t.Errorf("%s %s: got status %s with %s, want one that the description declares", r.Method, path, status, media)
		return
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", "+", "%2B")
	pointer := ""
	for _, step := range []string{"paths", path, strings.ToLower(r.Method), "responses", status, "content", media, "schema"} {
		pointer += "/" + escape.Replace(step)
	}
	schema, err := schemas.compiler.Compile("http://control/openapi.json#" + pointer)
	if err != nil {
		e.t.Fatal(err)
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		e.t.Fatalf("%s %s: got %s, want JSON: %v", r.Method, path, w.Body, err)
	}
	if err := schema.Validate(body); err != nil {
		e.t.Errorf("%s %s: got %s, want an answer as published: %v", r.Method, path, w.Body, err)
	}
}

func dig(v any, path ...string) (any, bool) {
	for _, step := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[step]; !ok {
			return nil, false
		}
	}
	return v, true
}

// The request's schema accepts a body if ParseRequest does.
func TestRequestSchema(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.do("viewer", "GET", "/v1/replicas", "").want(200)
	schemas.Lock()
	defer schemas.Unlock()
	schema, err := schemas.compiler.Compile("http://control/openapi.json#/components/schemas/Request")
	if err != nil {
		t.Fatal(err)
	}
	for body, valid := range map[string]bool{
		claims(issuerA, `{"sub":"a","n":1,"b":true}`):                                    true,
		`{"issuer":"https://a.example/","all":true,"expires_at":"2030-01-01T00:00:00Z"}`: true,
		`{"issuer":"https://a.example/","kid":"k","block":true,"reason":"x"}`:            true,
		`{"token":"a.b.c"}`:                                    true,
		`{"issuer":"https://a.example/"}`:                      false,
		`{"issuer":"https://a.example/","kid":"k","all":true}`: false,
		claims(issuerA, `{}`):                                  false,
		claims(issuerA, `{"sub":null}`):                        false,
		`{"issuer":"https://a.example/","kid":"k","foo":1}`:    false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != valid {
			t.Errorf("%s: got valid %v (%v), want valid %v", body, err == nil, err, valid)
		}
	}
}
