package test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"rescind/envoy/envoytest"
)

// Ten seconds of as many bad requests as the machine sends, with the generator on
// the same machine, write little, and no denial is left uncounted.
// TestDecisionLogIntoNothing has a short flood, and package decisionlog one in
// simulated time.
//
//	RESCIND_LONG=1 go test -run LogFlood -v ./test
func TestLogFlood(t *testing.T) {
	if !longForm {
		t.Skip("a measurement: RESCIND_LONG=1 go test -run LogFlood -v ./test")
	}
	const length = 10 * time.Second
	s := start(t, envoytest.Options{Replicas: 1})
	answered := flood(t, s.GRPC[0], length)
	if code := s.Replicas[0].Stop(); code != 0 {
		t.Errorf("wanted exit status 0, got %d", code)
	}
	path := filepath.Join(s.Dir, "replica-a.log")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	lines, suppressed := denialsIn(t, path)
	t.Logf("%d denials in %v (%.0f/s): %d bytes, %d lines, %d denials in summaries", answered, length, float64(answered)/length.Seconds(), info.Size(), lines, suppressed)
	if lines+suppressed != answered {
		t.Errorf("wanted %d denials in the log, got %d lines and %d in summaries", answered, lines, suppressed)
	}
	if info.Size() >= 1_000_000 {
		t.Errorf("wanted less than 1 MB of log, got %d bytes", info.Size())
	}
}

// wantOneShape checks that each line of a log is one JSON object with a time.
func wantOneShape(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		lines++
		var of struct{ Time, Timestamp string }
		if err := json.Unmarshal([]byte(line), &of); err != nil || of.Time+of.Timestamp == "" {
			t.Errorf("%s: got the line %q, want JSON with a time: %v", filepath.Base(path), line, err)
		}
	}
	if lines == 0 {
		t.Errorf("%s is empty, want the lines of the start", filepath.Base(path))
	}
}

// flood asks the replica at addr about a malformed token, over four connections,
// and returns how many answers came. Each one is a denial.
func flood(t *testing.T, addr string, length time.Duration) int {
	t.Helper()
	question := floodQuestion(t)
	var answered atomic.Int64
	var callers sync.WaitGroup
	end := time.Now().Add(length)
	for range 4 {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for range 32 {
			callers.Go(func() {
				var answer []byte
				for time.Now().Before(end) {
					if err := conn.Invoke(context.Background(), authv3.Authorization_Check_FullMethodName, question, &answer); err != nil {
						t.Errorf("wanted an answer, got %v", err)
						return
					}
					answered.Add(1)
				}
			})
		}
	}
	callers.Wait()
	return int(answered.Load())
}

// denialsIn counts the lines and the suppressed denials of a decision log.
func denialsIn(t *testing.T, path string) (lines, suppressed int) {
	t.Helper()
	all, _ := decisions(t, path)
	for _, d := range all {
		if d["rescind.decision.reason"] != "malformed" {
			t.Fatalf("wanted denials of malformed tokens alone, got %v", d)
		}
		if n, ok := d["rescind.decisions.suppressed"].(float64); ok {
			suppressed += int(n)
		} else {
			lines++
		}
	}
	return lines, suppressed
}

// floodQuestion returns the CheckRequest of a request with a malformed token.
func floodQuestion(t *testing.T) []byte {
	t.Helper()
	http := &authv3.AttributeContext_HttpRequest{
		Method: "GET", Path: "/orders/17", Host: "api.example", Protocol: "HTTP/1.1",
		HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: ":method", RawValue: []byte("GET")}, {Key: ":path", RawValue: []byte("/orders/17")}, {Key: "authorization", RawValue: []byte("Bearer nonsense")},
		}},
	}
	source := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "203.0.113.77"}}}
	question, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: source}, Request: &authv3.AttributeContext_Request{Http: http},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return question
}

// bytesCodec sends bytes as they are, and does not read the answer.
type bytesCodec struct{}

func (bytesCodec) Name() string                  { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (bytesCodec) Unmarshal([]byte, any) error   { return nil }
