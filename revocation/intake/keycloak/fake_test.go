package keycloak

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// realmServer is a realm that answers as Keycloak 26.7.4 does. The files in
// testdata are answers of a real one.
type realmServer struct {
	sync.Mutex
	t testing.TB

	realm   map[string]any
	keys    []map[string]any
	clients map[string]map[string]any
	users   map[string]map[string]any
	admin   []saved
	user    []saved

	lacks map[string]bool // roles that the client of the poller does not have
	// before is called with each request; an answer other than 0 is given instead.
	before func(r *http.Request) (status int)

	tokens   int
	requests []string // paths
	largest  int      // answer to a query of events, in events
	number   int      // of events made
}

// saved is an event and the facts that a search of the realm compares.
type saved struct {
	time           int64
	kind, resource string // of an admin event; kind is the type of a user event
	text           json.RawMessage
}

func newRealm(t testing.TB) *realmServer {
	k := &realmServer{t: t, clients: map[string]map[string]any{}, users: map[string]map[string]any{}, lacks: map[string]bool{}}
	recorded(t, "realm.json", &k.realm)
	delete(k.realm["attributes"].(map[string]any), "adminEventsExpiration")
	k.realm["notBefore"] = 0
	var list struct{ Keys []map[string]any }
	recorded(t, "keys.json", &list)
	k.keys = list.Keys
	return k
}

// recorded reads an answer of a real Keycloak.
func recorded(t testing.TB, file string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// save adds an admin event that is like a recorded one.
func (k *realmServer) save(at time.Time, operation, resource, path, body string) {
	k.Lock()
	defer k.Unlock()
	k.number++
	e := map[string]any{
		"id": fmt.Sprintf("%08d-0000-4000-8000-000000000000", k.number), "time": at.UnixMilli(), "operationType": operation, "resourceType": resource,
		"realmId": k.realm["id"], "authDetails": map[string]any{"userId": "6cfb7ec9-3088-4f5a-a46f-951083c4b8de", "ipAddress": "127.0.0.1"},
	}
	if path != "" {
		e["resourcePath"] = path
	}
	if body != "" {
		e["representation"] = body
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	k.admin = append(k.admin, saved{at.UnixMilli(), operation, resource, text})
}

// loadAdmin adds recorded admin events, moved to a time.
func parseSaved(text json.RawMessage) saved {
	var e struct {
		Time                              int64
		OperationType, ResourceType, Type string
	}
	if err := json.Unmarshal(text, &e); err != nil {
		panic(err)
	}
	return saved{e.Time, cmp.Or(e.OperationType, e.Type), e.ResourceType, text}
}

func (k *realmServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.Lock()
	before := k.before
	k.requests = append(k.requests, r.URL.Path)
	k.Unlock()
	if before != nil {
		if status := before(r); status != 0 {
			refuse(w, status, fmt.Sprintf("HTTP %d", status))
			return
		}
	}
	k.Lock()
	defer k.Unlock()
	if r.URL.Path == "/realms/acme/protocol/openid-connect/token" {
		k.login(w, r)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/admin/realms/acme")
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "Realm not found.")
	case r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", k.tokens):
		refuse(w, http.StatusUnauthorized, "HTTP 401 Unauthorized")
	default:
		k.answer(w, path, r.URL.Query())
	}
}

func (k *realmServer) login(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("client_id") != "rescind" || r.FormValue("client_secret") != "secret" || r.FormValue("grant_type") != "client_credentials" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}`)
		return
	}
	k.tokens++
	reply(w, map[string]any{"access_token": fmt.Sprintf("token-%d", k.tokens), "expires_in": 300, "refresh_expires_in": 0, "token_type": "Bearer", "not-before-policy": 0, "scope": "profile email"})
}

func (k *realmServer) answer(w http.ResponseWriter, path string, query url.Values) {
	below, id, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	role := map[string]string{"": "view-realm", "keys": "view-realm", "clients": "view-clients", "users": "view-users"}[below]
	if k.lacks[cmp.Or(role, "view-events")] {
		refuse(w, http.StatusForbidden, "HTTP 403 Forbidden")
		return
	}
	switch below {
	case "":
		reply(w, k.realm)
	case "keys":
		reply(w, map[string]any{"active": map[string]string{}, "keys": k.keys})
	case "admin-events":
		k.list(w, k.admin, query, func(s *saved) bool {
			return slices.Contains(query["operationTypes"], s.kind) && slices.Contains(query["resourceTypes"], s.resource)
		})
	case "events":
		k.list(w, k.user, query, func(s *saved) bool { return slices.Contains(query["type"], s.kind) })
	case "clients", "users":
		found := map[string]map[string]map[string]any{"clients": k.clients, "users": k.users}[below][id]
		if found == nil {
			refuse(w, http.StatusNotFound, "Could not find client")
			return
		}
		reply(w, found)
	default:
		refuse(w, http.StatusNotFound, "HTTP 404 Not Found")
	}
}

// list answers a query of events.
func (k *realmServer) list(w http.ResponseWriter, all []saved, query url.Values, chosen func(*saved) bool) {
	from, _ := strconv.ParseInt(query.Get("dateFrom"), 10, 64)
	first, _ := strconv.Atoi(query.Get("first"))
	limit, err := strconv.Atoi(query.Get("max"))
	if err != nil {
		limit = 100
	}
	found := []saved{}
	for i := range all {
		if all[i].time >= from && chosen(&all[i]) {
			found = append(found, all[i])
		}
	}
	slices.SortStableFunc(found, func(a, b saved) int { return cmp.Compare(a.time, b.time) })
	if query.Get("direction") != "asc" {
		slices.Reverse(found)
	}
	found = found[min(first, len(found)):]
	found = found[:min(limit, len(found))]
	k.largest = max(k.largest, len(found))
	texts := []json.RawMessage{}
	for i := range found {
		texts = append(texts, found[i].text)
	}
	reply(w, texts)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}

// RoundTrip carries a request to the realm without a network.
func (k *realmServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	recorder := httptest.NewRecorder()
	in := r.Clone(r.Context())
	in.RequestURI = ""
	k.ServeHTTP(recorder, in)
	return recorder.Result(), nil
}

// disableKey disables the key with this kid, or deletes it.
func (k *realmServer) changeKey(kid, status string) {
	k.Lock()
	defer k.Unlock()
	k.keys = slices.Clone(k.keys)
	for i := range k.keys {
		if k.keys[i]["kid"] != kid {
			continue
		}
		if status == "" {
			k.keys = slices.Delete(k.keys, i, i+1)
			return
		}
		k.keys[i] = maps.Clone(k.keys[i])
		k.keys[i]["status"] = status
	}
}
