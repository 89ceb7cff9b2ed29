package otlp

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// taken holds the exports that a collector with TLS has received.
type taken struct {
	mu      sync.Mutex
	exports []string // kind of data, and the credential sent with it
}

func (c *taken) take(signal string, credentials []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exports = append(c.exports, signal+" "+strings.Join(credentials, ","))
}

func (c *taken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	into := map[string]proto.Message{"/base/v1/traces": &tracespb.ExportTraceServiceRequest{}, "/base/v1/logs": &logspb.ExportLogsServiceRequest{}}[r.URL.Path]
	if into == nil || proto.Unmarshal(body, into) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.take(r.URL.Path, r.Header.Values("x-token"))
}

type spansTaken struct {
	tracespb.UnimplementedTraceServiceServer
	*taken
}

func (s spansTaken) Export(ctx context.Context, _ *tracespb.ExportTraceServiceRequest) (*tracespb.ExportTraceServiceResponse, error) {
	m, _ := metadata.FromIncomingContext(ctx)
	s.take("spans", m.Get("x-token"))
	return &tracespb.ExportTraceServiceResponse{}, nil
}

type logsTaken struct {
	logspb.UnimplementedLogsServiceServer
	*taken
}

func (l logsTaken) Export(ctx context.Context, _ *logspb.ExportLogsServiceRequest) (*logspb.ExportLogsServiceResponse, error) {
	m, _ := metadata.FromIncomingContext(ctx)
	l.take("logs", m.Get("x-token"))
	return &logspb.ExportLogsServiceResponse{}, nil
}

// collecting starts a collector for each protocol. ca is the trusted authority of
// both.
func collecting(t *testing.T) (c *taken, overGRPC, overHTTP, ca string) {
	t.Helper()
	c = &taken{}
	web := httptest.NewTLSServer(c)
	t.Cleanup(web.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	tracespb.RegisterTraceServiceServer(server, spansTaken{taken: c})
	logspb.RegisterLogsServiceServer(server, logsTaken{taken: c})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return c, "https://" + l.Addr().String(), web.URL + "/base/", ca
}

// export sends a span and a log record.
func export(t *testing.T, c Collector) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	spans, err := c.Spans(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = spans.Shutdown(ctx) }()
	logs, err := c.Logs(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = logs.Shutdown(ctx) }()
	if err := spans.ExportSpans(ctx, tracetest.SpanStubs{{Name: "x"}}.Snapshots()); err != nil {
		return err
	}
	return logs.Export(ctx, []sdklog.Record{{}})
}

func TestExport(t *testing.T) {
	c, overGRPC, overHTTP, ca := collecting(t)
	headers := map[string]string{"x-token": "s3cret"}
	for _, to := range []Collector{{overGRPC, GRPC, headers, ca}, {overHTTP, HTTP, headers, ca}} {
		if err := export(t, to); err != nil {
			t.Errorf("export over %s: got %v, want nil", to.Protocol, err)
		}
	}
	want := []string{"spans s3cret", "logs s3cret", "/base/v1/traces s3cret", "/base/v1/logs s3cret"}
	if !slices.Equal(c.exports, want) {
		t.Errorf("taken: %q, want %q", c.exports, want)
	}
}

// Nothing is exported without the right authority, or to a URL that is none.
func TestTrust(t *testing.T) {
	c, overGRPC, overHTTP, ca := collecting(t)
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, to := range []Collector{
		{overGRPC, GRPC, nil, ""}, {overHTTP, HTTP, nil, ""}, {overHTTP, HTTP, nil, none}, {overHTTP, HTTP, nil, none + "x"},
		{strings.Replace(overHTTP, "https", "http", 1), HTTP, nil, ca}, {"x", HTTP, nil, ""}, {"ftp://x", GRPC, nil, ""},
	} {
		if err := export(t, to); err == nil {
			t.Errorf("%+v: exported, want an error", to)
		}
	}
	if len(c.exports) > 0 {
		t.Errorf("taken: %q, want nothing", c.exports)
	}
}

func TestResource(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
	got := Resource("1.2.3", "replica-a").String()
	for _, want := range []string{"service.name=rescind-authz", "service.version=1.2.3", "service.instance.id=replica-a", "deployment.environment.name=prod"} {
		if !strings.Contains(got, want) {
			t.Errorf("resource %s, want %s in it", got, want)
		}
	}
}
