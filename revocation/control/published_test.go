package control

import (
	"bytes"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"rescind/revocation"
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
	for _, parent := range []string{"/v1/revocations", heldPath} {
		if strings.HasPrefix(path, parent+"/") {
			path = parent + "/{id}"
		}
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

// requestSchemaOf returns the published schema of a request.
func requestSchemaOf(t *testing.T) *jsonschema.Schema {
	t.Helper()
	e := serve(t, ledgertest.New())
	e.do("viewer", "GET", "/v1/replicas", "").want(200)
	schemas.Lock()
	defer schemas.Unlock()
	schema, err := schemas.compiler.Compile("http://control/openapi.json#/components/schemas/Request")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// The request's schema accepts a body exactly if the API does. Each body is made
// of members that the schema can tell apart: present, absent, empty, too long, and
// of a wrong type.
func TestRequestSchemaAgreesWithTheAPI(t *testing.T) {
	schema := requestSchemaOf(t)
	now := time.Now()
	long := func(n int) string { return fmt.Sprintf("%q", strings.Repeat("x", n)) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"c%d":%d`, i, i)
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	later := fmt.Sprintf("%q", now.Add(time.Hour).UTC().Format(time.RFC3339))
	token := fmt.Sprintf("%q", jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, now.Add(time.Hour).Unix())))
	values := map[string][]string{
		"issuer": {"", fmt.Sprintf("%q", issuerA), `""`, "null", "1", long(1024), long(1025)},
		"claims": {"", `{"sub":"a"}`, `{"a":"x","b":1.5,"c":true}`, "{}", `{"sub":""}`, `{"sub":null}`, `{"sub":["a"]}`, `{"sub":{}}`, "[]", `"sub"`, "null",
			many(16), many(17), `{"sub":` + long(1024) + "}", `{"sub":` + long(1025) + "}"},
		"kid":           {"", `"k"`, `""`, "1", "null", long(256), long(257)},
		"token":         {"", token, `""`, `"a.b"`, "null"},
		"all":           {"", "true", "false", "null", `"true"`},
		"block":         {"", "true", "false", "null", "1"},
		"issued_before": {"", later, `""`, `"yesterday"`, "1"},
		"expires_at":    {"", later, `"2026-13-01T00:00:00Z"`, "null"},
		"reason":        {"", `""`, `"left"`, "1", long(1024), long(1025)},
		"isuer":         {"", `"x"`},
	}
	names := slices.Sorted(maps.Keys(values))
	accepted := 0
	rapid.Check(t, func(rt *rapid.T) {
		form := rapid.SampledFrom([]string{"claims", "kid", "all", "token"}).Draw(rt, "form")
		members := map[string]string{form: values[form][1]}
		if form != "token" {
			members["issuer"] = values["issuer"][1]
		}
		for range rapid.IntRange(0, 3).Draw(rt, "changes") {
			name := rapid.SampledFrom(names).Draw(rt, "name")
			members[name] = rapid.SampledFrom(values[name]).Draw(rt, name)
		}
		var parts []string
		for _, name := range names {
			if members[name] != "" {
				parts = append(parts, fmt.Sprintf("%q:%s", name, members[name]))
			}
		}
		body := "{" + strings.Join(parts, ",") + "}"
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			rt.Fatal(err)
		}
		if members["token"] == token && members["issuer"] == long(1024) {
			return // a schema cannot say that it is not the issuer of the token
		}
		valid := schema.Validate(v)
		request, faults := revocation.ParseRequest([]byte(body))
		if faults == nil {
			_, faults = request.Accept(now, retention, "x")
		}
		if (faults == nil) != (valid == nil) {
			rt.Fatalf("%s: got the faults %v, want as the schema says: %v", body, faults, valid)
		}
		if faults == nil {
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("no body was accepted, want some")
	}
}

// Each form of a request is accepted by the schema, and near misses are not.
func TestRequestSchema(t *testing.T) {
	schema := requestSchemaOf(t)
	for body, valid := range map[string]bool{
		claims(issuerA, `{"sub":"a","n":1,"b":true}`):                                    true,
		`{"issuer":"https://a.example/","all":true,"expires_at":"2030-01-01T00:00:00Z"}`: true,
		`{"issuer":"https://a.example/","kid":"k","block":true,"reason":"x"}`:            true,
		`{"token":"a.b.c"}`: true,
		`{"token":"a.b.c","issuer":"https://a.example/"}`:           true,
		`{"issuer":"https://a.example/"}`:                           false,
		`{"issuer":"https://a.example/","kid":"k","all":true}`:      false,
		`{"issuer":"https://a.example/","kid":"k","all":false}`:     false,
		`{"issuer":"https://a.example/","kid":"k","claims":{}}`:     false,
		`{"issuer":"https://a.example/","kid":"k","token":"a.b.c"}`: false,
		`{"claims":{"sub":"a"}}`:                                    false,
		`{"kid":"k"}`:                                               false,
		`{"all":true}`:                                              false,
		claims(issuerA, `{}`):                                       false,
		claims(issuerA, `{"sub":null}`):                             false,
		`{"issuer":"https://a.example/","kid":"k","foo":1}`:         false,
		`{"issuer":"https://a.example/","kid":"k","block":true,"issued_before":"2026-01-01T00:00:00Z"}`:  false,
		`{"issuer":"https://a.example/","kid":"k","block":false,"issued_before":"2026-01-01T00:00:00Z"}`: true,
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

// The description has the parts that a generator of clients needs: a server,
// and for each operation an ID and one of the tags that the description
// explains.
func TestDescriptionIsWhole(t *testing.T) {
	requestSchemaOf(t)
	schemas.Lock()
	defer schemas.Unlock()
	if servers, _ := dig(schemas.doc, "servers"); fmt.Sprint(servers) == "<nil>" {
		t.Error("the description: got no servers, want one")
	}
	known := map[string]bool{}
	list, _ := dig(schemas.doc, "tags")
	for _, tag := range list.([]any) {
		known[tag.(map[string]any)["name"].(string)] = true
	}
	paths, _ := dig(schemas.doc, "paths")
	ids := map[string]bool{}
	for path, operations := range paths.(map[string]any) {
		for method, o := range operations.(map[string]any) {
			operation := o.(map[string]any)
			id, _ := operation["operationId"].(string)
			tags, _ := operation["tags"].([]any)
			if id == "" || ids[id] || len(tags) != 1 || !known[tags[0].(string)] {
				t.Errorf("%s %s: got the ID %q and the tags %v, want an ID of its own and one of %v", method, path, id, tags, known)
			}
			ids[id] = true
		}
	}
	if len(ids) != 14 {
		t.Errorf("the description: got the operations %v, want 14", ids)
	}
}
