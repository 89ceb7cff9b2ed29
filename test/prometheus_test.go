package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// tool returns the path of a program of the Debian package prometheus.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	const message = "%v; want it installed: apt-get install --no-install-recommends prometheus"
	if os.Getenv("CI") != "" {
		t.Fatalf(message, err)
	}
	t.Skipf(message, err)
	return ""
}

func shipped(name string) string { return filepath.Join("..", "envoy", name) }

type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alertRules(t *testing.T) (rules []rule) {
	t.Helper()
	text, err := os.ReadFile(shipped("prometheus-rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// panel is a panel of the Grafana dashboard.
type panel struct {
	Title, Description string
	Targets            []struct{ Expr string }
}

// annotation marks a time on every panel.
type annotation struct{ Name, Expr, TitleFormat string }

func dashboard(t *testing.T) (panels []panel, annotations []annotation) {
	t.Helper()
	text, err := os.ReadFile(shipped("grafana-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels      []panel
		Annotations struct{ List []annotation }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d.Panels, d.Annotations.List
}

func TestPrometheusRules(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "--lint-fatal", "prometheus-rules.yaml"}, {"test", "rules", "prometheus-rules.test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = shipped("")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool: wanted exit status 0, got %v: %s", err, out)
		}
	}
	tests, err := os.ReadFile(shipped("prometheus-rules.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range alertRules(t) {
		if severity := r.Labels["severity"]; severity != "page" && severity != "ticket" {
			t.Errorf("rule %s: wanted the severity page or ticket, got %q", r.Alert, severity)
		}
		if r.Annotations["summary"] == "" || len(r.Annotations["runbook"]) < 80 {
			t.Errorf("rule %s: wanted a summary and a runbook of some length, got %v", r.Alert, r.Annotations)
		}
		if !strings.Contains(string(tests), `alertname="`+r.Alert+`",alertstate="firing",`) {
			t.Errorf("rule %s: wanted a test that raises it, there is none", r.Alert)
		}
	}
}

// prometheus is a real Prometheus with the shipped rules. It scrapes every second.
type prometheus struct{ url string }

func scraping(t *testing.T, s *envoytest.Stack) *prometheus {
	t.Helper()
	program, dir, listen := tool(t, "prometheus"), t.TempDir(), freeport.Addrs(t, 1)[0]
	rules, err := filepath.Abs(shipped("prometheus-rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	targets := slices.Clone(s.HTTP)
	for _, u := range s.ControlURLs {
		targets = append(targets, strings.TrimPrefix(u, "http://"))
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: rescind, static_configs: [{targets: ['%s']}]}]\n", rules, strings.Join(targets, "', '"))
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(s.Dir, "prometheus.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen, "--enable-feature=exemplar-storage")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); log.Close() })
	p := &prometheus{"http://" + listen}
	eventually.True(t, "Prometheus is ready", func() bool { return strings.Contains(scraped(p.url+"/-/ready"), "Ready") })
	return p
}

// get asks the HTTP API, and demands an answer without error or warning.
func (p *prometheus) get(t *testing.T, path string, query url.Values, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/"+path+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Warnings      []string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: got %v, want JSON", path, err)
	}
	if answer.Status != "success" || len(answer.Warnings) > 0 {
		t.Errorf("%s %v: wanted no error and no warning, got %s %v", path, query, answer.Error, answer.Warnings)
		return
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		t.Fatalf("%s: got %v, want other data", path, err)
	}
}

// query returns the number of series of an expression, and reports whether one of
// the values is a number.
func (p *prometheus) query(t *testing.T, expr string) (series int, numbers bool) {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	p.get(t, "query", url.Values{"query": {expr}}, &data)
	for _, r := range data.Result {
		numbers = numbers || r.Value[1] != "NaN"
	}
	return len(data.Result), numbers
}

var figure = regexp.MustCompile(`rescind_[a-z_]+`)

// A Prometheus scrapes a rescind under traffic. It then has every metric that the
// dashboard and the rules name, and each of their queries yields numbers, except
// for those that need more than this test sets up.
func TestDashboardAndRulesWithPrometheus(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	tool(t, "prometheus")
	absent := []string{
		"rescind_alert_deliveries_total",               // needs somebody to tell
		"rescind_jwks_keys_skipped_total",              // needs an issuer with a bad key
		"rescind_certificate_expiry_timestamp_seconds", // needs listeners with TLS
		"rescind_issuer_clock_ahead_total",             // needs an issuer whose clock is ahead
		"rescind_decision_log_suppressed_total",        // needs a flood
		"rescind_intake_last_poll_timestamp_seconds",   // needs an intake that polls
	}
	endpoint := traceSink(t)
	module, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, envoytest.Options{Module: module, Authz: "tracing: {endpoint: " + endpoint + ", sample_ratio: 1}\n", Intakes: func(issuer string) string {
		return fmt.Sprintf("  - {name: logouts, kind: logout, issuers: [%q], jwks_uri: %q, clients: [web]}", issuer, issuer+"/jwks")
	}})
	p := scraping(t, s)
	eventually.True(t, "Prometheus has seen both configurations", func() bool {
		series, _ := p.query(t, "rescind_config_last_change_timestamp_seconds")
		return series == len(s.HTTP)+len(s.ControlURLs)
	})
	for i := range s.Replicas {
		observing(t, s, i)
	}
	traffic(t, s, p)

	var names []string
	p.get(t, "label/__name__/values", nil, &names)
	panels, annotations := dashboard(t)
	for _, l := range panels {
		for _, q := range l.Targets {
			expr := strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*").Replace(q.Expr)
			series, numbers := p.query(t, expr)
			may := slices.ContainsFunc(absent, func(name string) bool { return strings.Contains(expr, name) })
			if (series == 0 || !numbers) && !may {
				t.Errorf("panel %s: wanted numbers from %s, got none", l.Title, expr)
			}
			wantFigures(t, l.Title, expr, names, absent)
		}
		if len(l.Targets) > 0 && l.Description == "" {
			t.Errorf("panel %s: wanted a description, there is none", l.Title)
		}
	}
	p.wantAnnotations(t, annotations, names)
	for _, r := range alertRules(t) {
		p.query(t, r.Expr)
		wantFigures(t, r.Alert, r.Expr, names, absent)
	}
	p.wantHealthyRules(t)
	p.wantExemplars(t)

	// The alert that wakes an engineer first.
	s.Control[0].Kill()
	eventually.True(t, "RescindFeedDisconnected is pending", func() bool {
		series, _ := p.query(t, `ALERTS{alertname="RescindFeedDisconnected"}`)
		return series == 2
	})
}

// observing sets the policy reports of replica i to observe, and gives the issuer
// status lists. The replica rereads its file.
func observing(t *testing.T, s *envoytest.Stack, i int) {
	t.Helper()
	path := filepath.Join(s.Dir, envoytest.ReplicaName(i)+".yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const enforced = `scopes: ["reports:read"]`
	const audiences = "    audiences: [api]\n"
	if !strings.Contains(string(text), enforced) || !strings.Contains(string(text), audiences) {
		t.Fatalf("%s: got\n%s\nwant %s and %s in it", path, text, enforced, audiences)
	}
	lists := fmt.Sprintf("    status_lists: {uris: ['%s/statuslists/'], min_refresh_interval: 1s}\n", s.Issuer.URL())
	changed := strings.NewReplacer(enforced, enforced+", mode: observe", audiences, audiences+lists).Replace(string(text))
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// traffic makes figures move until a Prometheus has seen them do so.
func traffic(t *testing.T, s *envoytest.Stack, p *prometheus) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	tokens := []string{login(t, s, "alice"), placed(t, s, 0), minted(t, s, map[string]any{"exp": 1}), minted(t, s, map[string]any{"sub": "a\nb"}), "nonsense", ""}
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			for _, path := range []string{"/", "/public", "/reports"} {
				_, _ = s.Get(ctx, path, tokens[i%len(tokens)])
			}
			if i%20 == 0 {
				body := map[string]any{"issuer": s.Issuer.URL(), "claims": map[string]any{"sub": fmt.Sprint("nobody-", i)}}
				_, _ = s.Admin(ctx, http.MethodPost, "/v1/revocations", body, nil)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	eventually.True(t, "Prometheus has figures of 15 seconds", func() bool {
		series, _ := p.query(t, "rescind_ready offset 15s")
		return series == 2
	})
}

func wantFigures(t *testing.T, where, expr string, names, absent []string) {
	t.Helper()
	for _, name := range figure.FindAllString(expr, -1) {
		if !slices.Contains(names, name) && !slices.Contains(absent, name) {
			t.Errorf("%s: wanted the metric %s, Prometheus has none", where, name)
		}
	}
}

// wantAnnotations checks that the dashboard marks the revocations of the traffic, the
// changed configuration, and a refused one, which there is none of.
func (p *prometheus) wantAnnotations(t *testing.T, all []annotation, names []string) {
	t.Helper()
	want := map[string]bool{"Revocations": true, "Configuration changes": true, "Configuration refused": false}
	for _, a := range all {
		marks, known := want[a.Name]
		delete(want, a.Name)
		series, _ := p.query(t, strings.ReplaceAll(a.Expr, "$__rate_interval", "1m"))
		if !known || (series > 0) != marks || a.TitleFormat == "" {
			t.Errorf("annotation %s: %d series of %s with the title %q, want some: %t, and a title", a.Name, series, a.Expr, a.TitleFormat, marks)
		}
		wantFigures(t, a.Name, a.Expr, names, nil)
	}
	if len(want) > 0 {
		t.Errorf("the dashboard has no annotations for %v, want them", slices.Sorted(maps.Keys(want)))
	}
}

func (p *prometheus) wantHealthyRules(t *testing.T) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	p.get(t, "rules", nil, &data)
	seen := map[string]bool{}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			seen[r.Name] = true
			if r.Health != "ok" || r.State == "firing" {
				t.Errorf("rule %s: wanted it healthy and quiet, got %s, %s %s", r.Name, r.State, r.Health, r.LastError)
			}
		}
	}
	if len(seen) != len(alertRules(t)) {
		t.Errorf("wanted all rules in force, got %v", slices.Sorted(maps.Keys(seen)))
	}
}

func (p *prometheus) wantExemplars(t *testing.T) {
	t.Helper()
	now := time.Now()
	span := url.Values{"query": {"rescind_check_duration_seconds_bucket"}, "start": {now.Add(-time.Minute).Format(time.RFC3339)}, "end": {now.Format(time.RFC3339)}}
	var data []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	p.get(t, "query_exemplars", span, &data)
	if len(data) == 0 || len(data[0].Exemplars) == 0 || len(data[0].Exemplars[0].Labels["trace_id"]) != 32 {
		t.Errorf("wanted exemplars with a trace, got %v", data)
	}
}

// traceSink returns the address of a gRPC server that takes OTLP traces and
// drops them.
func traceSink(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	tracespb.RegisterTraceServiceServer(s, dropTraces{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

type dropTraces struct {
	tracespb.UnimplementedTraceServiceServer
}

func (dropTraces) Export(context.Context, *tracespb.ExportTraceServiceRequest) (*tracespb.ExportTraceServiceResponse, error) {
	return &tracespb.ExportTraceServiceResponse{}, nil
}
