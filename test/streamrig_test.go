package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// streamRig is a gateway with the module in front of services whose answers have no
// end, or no beginning.
type streamRig struct {
	*envoytest.Stack
	arrived atomic.Int64  // requests that the services have seen
	release chan struct{} // late answers begin once it is closed
}

func startStreams(t *testing.T, issuer string) *streamRig {
	t.Helper()
	rig := &streamRig{release: make(chan struct{})}
	web := httptest.NewServer(http.HandlerFunc(rig.serve))
	t.Cleanup(web.Close)
	calls := rig.serveCalls(t)
	rig.Stack = startInProcessWith(t, envoytest.Options{Issuer: issuer, Bootstrap: func(s *envoytest.Stack) ([]byte, error) {
		shipped, err := s.Shipped()
		text := strings.Replace(string(shipped), "stat_prefix: gateway\n", "stat_prefix: gateway\n                upgrade_configs: [{upgrade_type: websocket}]\n", 1)
		text = strings.Replace(text, "                      routes:\n", `                      routes:
                        - match: {prefix: /streams/}
                          route: {cluster: streams, timeout: 0s}
                          metadata: {filter_metadata: {rescind: {policy: default}}}
                        - match: {prefix: /grpc.health.v1.Health/, grpc: {}}
                          route: {cluster: calls, timeout: 0s}
                          metadata: {filter_metadata: {rescind: {policy: default}}}
`, 1)
		text += streamCluster("streams", web.Listener.Addr(), "") + streamCluster("calls", calls, `
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}`)
		return []byte(text), err
	}})
	return rig
}

func streamCluster(name string, at net.Addr, options string) string {
	host, port, _ := net.SplitHostPort(at.String())
	return fmt.Sprintf(`
    - name: %s
      connect_timeout: 1s%s
      load_assignment:
        cluster_name: %s
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]
`, name, options, name, host, port)
}

// serve answers for the paths of streams.
func (rig *streamRig) serve(w http.ResponseWriter, r *http.Request) {
	rig.arrived.Add(1)
	switch r.URL.Path {
	case "/streams/events":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: open\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "/streams/socket":
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, c)
	case "/streams/late":
		select {
		case <-r.Context().Done():
		case <-rig.release:
			_, _ = io.WriteString(w, "late")
		}
	default: // no response
		<-r.Context().Done()
	}
}

// serveCalls serves the health service of gRPC, whose Watch has no end. A List has no
// beginning.
func (rig *streamRig) serveCalls(t *testing.T) net.Addr {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			rig.arrived.Add(1)
			return next(srv, stream)
		}),
		grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			rig.arrived.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr()
}

// held is a stream that is open.
type held struct {
	ended <-chan struct{}
	at    *time.Time       // of the end, set once the stream has ended
	body  *strings.Builder // complete once the stream has ended
	close func()
}

// hold reads a stream until it ends.
func hold(stop func(), read func(io.Writer)) held {
	ended, at, body := make(chan struct{}), &time.Time{}, &strings.Builder{}
	go func() {
		defer close(ended)
		read(body)
		*at = time.Now()
	}()
	return held{ended, at, body, stop}
}

// get sends a GET and holds its answer. Headers are names and values in turn.
func (rig *streamRig) get(t *testing.T, path, token string, headers ...string) held {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, rig.GatewayURL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return hold(cancel, func(to io.Writer) {
		a, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return
		}
		defer a.Body.Close()
		_, _ = io.Copy(to, a.Body)
	})
}

// upgrade asks for a WebSocket.
func (rig *streamRig) upgrade(t *testing.T, path, token string) held {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(rig.GatewayURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, token)
	if err != nil {
		t.Fatal(err)
	}
	return hold(func() { _ = c.Close() }, func(to io.Writer) { _, _ = io.Copy(to, bufio.NewReader(c)) })
}

// call makes a call of gRPC.
func (rig *streamRig) call(t *testing.T, token string, call func(context.Context, grpc_health_v1.HealthClient) error) held {
	t.Helper()
	c, err := grpc.NewClient(strings.TrimPrefix(rig.GatewayURL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	return hold(func() { _ = c.Close() }, func(io.Writer) { _ = call(ctx, grpc_health_v1.NewHealthClient(c)) })
}

func watch(ctx context.Context, c grpc_health_v1.HealthClient) error {
	w, err := c.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	for err == nil {
		_, err = w.Recv()
	}
	return err
}

func list(ctx context.Context, c grpc_health_v1.HealthClient) error {
	_, err := c.List(ctx, &grpc_health_v1.HealthListRequest{})
	return err
}

// opened calls open and waits until the services have seen the request.
func (rig *streamRig) opened(t *testing.T, what string, open func() held) held {
	t.Helper()
	before := rig.arrived.Load()
	stream := open()
	t.Cleanup(stream.close)
	eventually.True(t, what+": the request arrives", func() bool { return rig.arrived.Load() > before })
	return stream
}

// ends are streams whose tokens are revoked. They are waited for together, because
// Envoy delays the end of a connection of HTTP/1.
type ends struct {
	*streamRig
	all []end
}

type end struct {
	what    string
	stream  held
	revoked time.Time // acknowledged
}

// revoke makes a revocation, after which the stream must end.
func (e *ends) revoke(t *testing.T, what string, stream held, target map[string]any) {
	t.Helper()
	revoked(t, e.Stack, target)
	e.all = append(e.all, end{what, stream, time.Now()})
}

// wait waits for the ends of all streams.
func (e *ends) wait(t *testing.T) {
	t.Helper()
	var latest time.Duration
	late, cancel := context.WithTimeout(t.Context(), eventually.Limit)
	defer cancel()
	for _, one := range e.all {
		select {
		case <-one.stream.ended:
		case <-late.Done():
		}
		select { // several streams may have ended when it became late
		case <-one.stream.ended:
			latest = max(latest, one.stream.at.Sub(one.revoked))
		default:
			t.Errorf("%s: the stream goes on long after its token was revoked", one.what)
		}
	}
	t.Logf("%d streams ended, the last one %v after the acknowledgement", len(e.all), latest.Round(time.Millisecond))
	e.all = nil
}

func sub(subject string) map[string]any {
	return map[string]any{"claims": map[string]any{"sub": subject}}
}

func wantOpen(t *testing.T, what string, stream held) {
	t.Helper()
	select {
	case <-stream.ended:
		t.Errorf("%s: the stream has ended, and its token is not revoked", what)
	default:
	}
}

func (rig *streamRig) wantWatched(t *testing.T, n int) {
	t.Helper()
	eventually.True(t, fmt.Sprint("the number of watched streams is ", n), func() bool {
		return strings.Contains(replicaMetrics(t, rig.Stack), fmt.Sprintf("rescind_streams %d\n", n))
	})
}
