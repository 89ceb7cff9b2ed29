package control

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/ledger/ledgertest"
)

// requestsOf returns the values of the counter, by operation and code.
func (e *endpoint) requestsOf() map[string]float64 {
	e.t.Helper()
	all := make(chan prometheus.Metric, 1000)
	e.server.metrics.requests.Collect(all)
	close(all)
	got := map[string]float64{}
	for m := range all {
		var d dto.Metric
		if err := m.Write(&d); err != nil {
			e.t.Fatal(err)
		}
		labels := map[string]string{}
		for _, l := range d.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		got[labels["operation"]+" "+labels["code"]] = d.GetCounter().GetValue()
	}
	return got
}

// Each request counts once, at each exit, under labels of a fixed list.
func TestAdminRequestsAreCounted(t *testing.T) {
	e := serve(t, ledgertest.New())
	id := e.revoke("revoker", claims(issuerA, `{"jti":"0"}`)).ID
	before := e.requestsOf()
	for _, c := range []struct {
		who, method, path, body, contentType string
		want                                 string
	}{
		{"revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"1"}`), typeJSON, "revoke 201"},
		{"revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"1"}`), typeJSON, "revoke 200"},
		{"revoker", "POST", "/v1/revocations", "{", typeJSON, "revoke 422"},
		{"revoker", "POST", "/v1/revocations", "x", "text/plain", "revoke 415"},
		{"viewer", "POST", "/v1/revocations", claims(issuerA, `{"jti":"2"}`), typeJSON, "revoke 403"},
		{"", "POST", "/v1/revocations", claims(issuerA, `{"jti":"2"}`), typeJSON, "revoke 401"},
		{"operator", "POST", "/v1/revocations", claims(issuerA, `{"jti":"3"}`) + "\n", typeNDJSON, "import 201"},
		{"viewer", "GET", "/v1/revocations", "", "", "list 200"},
		{"viewer", "GET", "/v1/revocations?nosuch=1", "", "", "list 422"},
		{"viewer", "GET", "/v1/revocations/" + id, "", "", "show 200"},
		{"viewer", "GET", "/v1/revocations/a-name-of-the-caller", "", "", "show 404"},
		{"operator", "DELETE", "/v1/revocations/" + id, "", "", "restore 200"},
		{"viewer", "GET", "/v1/replicas", "", "", "replicas 200"},
		{"operator", "PUT", "/v1/revocations", "", "", "none 405"},
		{"viewer", "GET", "/v1/a-name-of-the-caller", "", "", "none 404"},
		{"", "GET", "/nothing", "", "", "none 404"},
		{"", "GET", "/openapi.json", "", "", "openapi 200"},
	} {
		a := e.do(c.who, c.method, c.path, c.body, "Content-Type", c.contentType)
		after := e.requestsOf()
		want := maps.Clone(before)
		want[c.want]++
		if !maps.Equal(after, want) {
			t.Errorf("%s %s of %q, answered with %d %s:\nwanted %v\ngot    %v", c.method, c.path, c.who, a.Code, a.Body, want, after)
		}
		before = after
	}
}

// A handler that panics answers nothing, and still counts.
func TestAPanicCountsAsA500(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.server.replicas = func() []Replica { panic("a defect") }
	s := httptest.NewUnstartedServer(e.server)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Start()
	t.Cleanup(s.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/replicas", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token-viewer")
	res, err := s.Client().Do(r)
	if err == nil {
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		t.Fatalf("wanted a connection that ends, got %s %s", res.Status, body)
	}
	if got, want := e.requestsOf(), map[string]float64{"replicas 500": 1}; !maps.Equal(got, want) {
		t.Errorf("wanted %v, got %v", want, got)
	}
}
