package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
)

func TestNonsenseIsDenied(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	for _, c := range []struct {
		name  string
		check *authv3.CheckRequest
	}{
		{"two tokens, one in each list", asking(map[string]string{"authorization": "Bearer " + k.token(nil)}, "authorization", "Bearer "+k.token(nil))},
		{"one in two cases", asking(map[string]string{"authorization": "Bearer " + k.token(nil), "Authorization": "Bearer " + k.token(nil)})},
	} {
		if got := reasonOf(t, s, c.check); got != "bad_request" {
			t.Errorf("%s: reason %s, want bad_request", c.name, got)
		}
	}
}

// A request without any header has no token, which the policy may allow. A
// question about no HTTP request is never allowed, and neither is an unreadable
// one.
func TestEmptyCheckRequests(t *testing.T) {
	s, _ := server(t, newKey(t), options{})
	extension := func(policy string) *authv3.AttributeContext {
		return &authv3.AttributeContext{ContextExtensions: map[string]string{"policy": policy}}
	}
	for _, policy := range []string{"default", "public", "nosuch"} {
		noHeader, noHTTP, noRequest := extension(policy), extension(policy), extension(policy)
		noHeader.Request = &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{}}
		noHTTP.Request = &authv3.AttributeContext_Request{}
		noRequest.Source = &authv3.AttributeContext_Peer{Principal: "root"}
		wire := func(a *authv3.AttributeContext) []byte {
			b, err := proto.Marshal(&authv3.CheckRequest{Attributes: a})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for _, c := range []struct {
			name string
			wire []byte
			want string
		}{
			{"no header", wire(noHeader), map[string]string{"default": "no_token", "public": "no_token_allowed", "nosuch": "unknown_policy"}[policy]},
			{"no http", wire(noHTTP), "no_token"},
			{"no request", wire(noRequest), "no_token"},
			{"no attributes", nil, "no_token"},
			{"cut off", wire(noHeader)[:len(wire(noHeader))-1], "bad_request"},
			{"nonsense", []byte("GET / HTTP/1.1"), "bad_request"},
		} {
			r := received(s.answer(t.Context(), func() (*authz.Request, authz.Reason) { return new(reading).readCheck(inPieces(c.wire, 5)) }, reply))
			if got := r.GetDynamicMetadata().AsMap()["reason"]; got != c.want || (r.GetStatus().GetCode() == 0) != (c.want == "no_token_allowed") {
				t.Errorf("policy %s, %s: reason %s, code %d, want %s", policy, c.name, got, r.GetStatus().GetCode(), c.want)
			}
		}
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var ready atomic.Bool
	s, _ := server(t, newKey(t), options{Ready: ready.Load})
	client := healthpb.NewHealthClient(dial(t, serving(t, s)))
	want := func(state healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
			r, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
			if err != nil || r.GetStatus() != state {
				t.Errorf("%q: %v %v, want %v", service, r, err, state)
			}
		}
	}
	if r, err := client.List(ctx, &healthpb.HealthListRequest{}); err != nil || len(r.GetStatuses()) != 2 || r.GetStatuses()[""].GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("before the first health check: %v, %v, want NOT_SERVING for two services", r, err)
	}
	want(healthpb.HealthCheckResponse_NOT_SERVING)
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("Watch at first: %v, %v, want NOT_SERVING", r, err)
	}
	ready.Store(true)
	want(healthpb.HealthCheckResponse_SERVING)
	if r, err := watch.Recv(); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("Watch once ready: %v, %v, want SERVING", r, err)
	}
	s.health.Shutdown()
	want(healthpb.HealthCheckResponse_NOT_SERVING)
}

// Open Checks are answered before Shutdown returns.
func TestShutdownDrains(t *testing.T) {
	k := newKey(t)
	entered, release := make(chan struct{}), make(chan struct{})
	k.find = func() { entered <- struct{}{}; <-release }
	s, _ := server(t, k, options{})
	client := authv3.NewAuthorizationClient(dial(t, serving(t, s)))
	type answer struct {
		r   *authv3.CheckResponse
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := client.Check(context.Background(), Question{Token: k.token(nil)}.request())
		answers <- answer{r, err}
	}()
	receive(t, entered)
	drained := make(chan error)
	go func() { drained <- s.Shutdown(context.Background()) }()
	select {
	case err := <-drained:
		t.Fatalf("Shutdown returned %v before the open Check was answered, want it to wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if a := receive(t, answers); a.err != nil || a.r.GetStatus().GetCode() != 0 {
		t.Errorf("the open Check: %v, %v, want allowed", a.r, a.err)
	}
	if err := receive(t, drained); err != nil {
		t.Errorf("Shutdown after the open Check: got %v, want nil", err)
	}
}

// A stopping server reports NOT_SERVING first, and answers while it lingers.
func TestShutdownReportsNotServingFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey(t)
		s, _ := server(t, k, options{Linger: 3 * time.Second})
		l := bufconn.Listen(64 << 10)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		check := func() error {
			_, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), Question{Token: k.token(nil)}.request())
			return err
		}
		health := func() healthpb.HealthCheckResponse_ServingStatus {
			r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "envoy.service.auth.v3.Authorization"})
			if err != nil {
				t.Errorf("the health check: got %v, want an answer", err)
			}
			return r.GetStatus()
		}
		if err := check(); err != nil || health() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("before Shutdown: %v, want an answer and SERVING", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		time.Sleep(time.Second)
		if err := check(); err != nil || health() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("during Shutdown: %v, want an answer and NOT_SERVING", err)
		}
		begun := time.Now()
		if err := <-ended; err != nil || time.Since(begun) != 2*time.Second {
			t.Errorf("Shutdown returned %v after another %s, want nil after 2s", err, time.Since(begun))
		}
		_ = conn.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
}

func TestShutdownIsBounded(t *testing.T) {
	k := newKey(t)
	entered, release := make(chan struct{}), make(chan struct{})
	k.find = func() { entered <- struct{}{}; <-release }
	s, _ := server(t, k, options{})
	client := authv3.NewAuthorizationClient(dial(t, serving(t, s)))
	go func() { _, _ = client.Check(context.Background(), Question{Token: k.token(nil)}.request()) }()
	receive(t, entered)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	time.AfterFunc(time.Second, func() { close(release) }) // Stop waits for handlers
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestReplace(t *testing.T) {
	before, after := newKey(t), newKey(t)
	f := follower(t)
	s, _ := server(t, before, options{Revocations: f})
	ask := func(k *key) any {
		r, err := s.Check(t.Context(), Question{Token: k.token(nil)}.request())
		if err != nil {
			t.Fatal(err)
		}
		return r.GetDynamicMetadata().AsMap()["reason"]
	}
	if a, b := ask(before), ask(after); a != "ok" || b != "bad_signature" {
		t.Errorf("before Replace: reasons %v and %v, want ok and bad_signature", a, b)
	}
	s.gate.Replace(authorizer(t, after, f, nil))
	if a, b := ask(before), ask(after); a != "bad_signature" || b != "ok" {
		t.Errorf("after Replace: reasons %v and %v, want bad_signature and ok", a, b)
	}
}

// Observers log decisions. The server itself logs nothing of a request, at any
// level.
func TestNothingOfARequestIsLogged(t *testing.T) {
	k := newKey(t)
	s, log := server(t, k, options{})
	evil := "ev\u202eil\n\x1b[31m"
	for _, token := range []string{
		k.token(map[string]any{"sub": evil, "jti": evil, "email": "private@example.com"}),
		k.token(map[string]any{"exp": 1, "sub": evil}),
		k.token(map[string]any{"iss": evil}),
		k.token(nil)[:40], "Bearer", "ev\x1bil",
	} {
		for _, policy := range []string{"default", evil} {
			if _, err := s.Check(t.Context(), Question{Token: token, Policy: &policy}.request()); err != nil {
				t.Errorf("token %.60q, policy %q: got %v, want an answer", token, policy, err)
			}
		}
	}
	if got := log.String(); got != "" {
		t.Errorf("logged %s, want nothing", got)
	}
}

func TestMetrics(t *testing.T) {
	k := newKey(t)
	registry := prometheus.NewRegistry()
	s, _ := server(t, k, options{Registerer: registry})
	unknown, public := "made-up", "public"
	for _, q := range []Question{
		{Token: k.token(nil)}, {Token: k.token(nil)}, {Token: k.token(map[string]any{"iss": "https://made-up.example/"})},
		{Policy: &unknown}, {Policy: &public}, {}, {Token: k.token(map[string]any{"sub": "\n"})},
	} {
		if _, err := s.Check(t.Context(), q.request()); err != nil {
			t.Errorf("%+v: got %v, want an answer", q, err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"rescind_decisions_total issuer=" + idp + " policy=default reason=ok":    3,
		"rescind_decisions_total issuer= policy=default reason=untrusted_issuer": 1,
		"rescind_decisions_total issuer= policy= reason=unknown_policy":          1,
		"rescind_decisions_total issuer= policy=public reason=no_token_allowed":  1,
		"rescind_decisions_total issuer= policy=default reason=no_token":         1,
		"rescind_headers_left_out_total header=x-jwt-subject":                    1,
		"rescind_check_duration_seconds":                                         7,
		"rescind_ready":                                                          1,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	for name := range got {
		if strings.Contains(name, "made-up") {
			t.Errorf("got the metric %s, want no label from a request", name)
		}
	}
}

func FuzzCheckRequest(f *testing.F) {
	k := newKey(f)
	s, _ := server(f, k, options{})
	public := "public"
	for _, q := range []Question{{}, {Token: k.token(nil)}, {Token: "a.b.c", Policy: &public}, {Policy: &public, Headers: []authz.Header{{Name: "x_jwt_sub", Value: "root"}}}} {
		wire, err := proto.Marshal(q.request())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var check authv3.CheckRequest
		if proto.Unmarshal(wire, &check) != nil {
			return
		}
		r, err := s.Check(context.Background(), &check)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := proto.Marshal(r); err != nil {
			t.Errorf("the answer to %v: got %v, want it encoded", &check, err)
		}
		if r.GetStatus().GetCode() == 0 {
			m := r.GetDynamicMetadata().AsMap()
			if m["reason"] != "ok" && (m["reason"] != "no_token_allowed" || check.GetAttributes().GetContextExtensions()["policy"] != "public") {
				t.Errorf("%v is allowed with %v, want ok or no_token_allowed", &check, r)
			}
			headersOf(t, r.GetOkResponse().GetHeaders())
			return
		}
		var body map[string]string
		if denied := r.GetDeniedResponse(); denied == nil || json.Unmarshal([]byte(denied.GetBody()), &body) != nil {
			t.Errorf("%v is denied with %v, want a JSON body", &check, r)
		}
	})
}
