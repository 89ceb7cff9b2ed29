package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// A body that Envoy sends along costs no decision. Above grpc.max_message it
// costs the request, which is denied, counted and logged.
func TestRequestBodiesThroughEnvoy(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})
	withBody := func(listener, _ node) {
		at(filterOf(listener), "typed_config").(node)["with_request_body"] = node{"max_request_bytes": 16 << 20, "pack_as_bytes": true}
	}
	policies := "policies: {public: {token: optional}}\n"
	large := w.replica("large", w.config("large", "{listen: 127.0.0.1:0}", "    audiences: [api]", policies))
	small := w.replica("small", w.config("small", "{listen: 127.0.0.1:0, max_message: 131072}", "    audiences: [api]", policies))
	w.gateway("large", large.addr("grpc"), withBody)
	w.gateway("small", small.addr("grpc"), withBody)
	urls := w.envoy()
	client, good := &http.Client{Timeout: 30 * time.Second}, minted(t, w.Stack, nil)
	post := func(url, token string, size int) envoytest.Answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		a, err := do(client, req)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name := range urls {
		eventually.True(t, "the gateway "+name+" answers 200", func() bool { return w.get(client, urls[name], good).Status == http.StatusOK })
	}
	for _, c := range []struct {
		gateway, path, token string
		size, want           int
	}{
		{"large", "/", good, 1, 200}, {"large", "/", good, 100 << 10, 200}, {"large", "/", good, 8 << 20, 200}, {"large", "/", good, 15 << 20, 200},
		{"large", "/", "", 8 << 20, 401}, {"large", "/", "nonsense", 8 << 20, 401}, {"large", "/public/x", "", 8 << 20, 200},
		{"small", "/", good, 100 << 10, 200}, {"small", "/", good, 200 << 10, 503}, {"small", "/public/x", "", 200 << 10, 503}, {"small", "/", good, 1, 200},
	} {
		if a := post(urls[c.gateway]+c.path, c.token, c.size); a.Status != c.want {
			t.Errorf("%s %s, token %.10q, a body of %d bytes: %d %.200s, want %d", c.gateway, c.path, c.token, c.size, a.Status, a.Body, c.want)
		}
	}
	if a := w.get(client, "http://"+small.addr("http")+"/metrics", ""); !strings.Contains(string(a.Body), `rescind_check_refused_total{bound="grpc.max_message"} 2`) {
		t.Errorf("the metrics of the replica: got\n%s\nwant 2 Checks above grpc.max_message", a.Body)
	}
	if !strings.Contains(small.text(), `"bound":"grpc.max_message","limit":131072`) {
		t.Errorf("the log of the replica: got\n%s\nwant the bound grpc.max_message and its limit", small.text())
	}
}

// The limits of the shipped gateway hold. The test makes them small.
func TestEdgeLimits(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})
	streaming := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for flush := http.NewResponseController(rw); r.Context().Err() == nil; time.Sleep(10 * time.Millisecond) {
			_, _ = io.WriteString(rw, "data: x\n\n")
			_ = flush.Flush()
		}
	}))
	t.Cleanup(streaming.Close)
	w.upstream.URL = streaming.URL
	replica := w.replica("edge", w.config("edge", "{listen: 127.0.0.1:0}", "    audiences: [api]", "policies: {public: {token: optional}}\n"))
	shorten := func(of node, key, to string) {
		t.Helper()
		if _, there := of[key]; !there {
			t.Errorf("envoy.yaml does not set %s, want it set", key)
		}
		of[key] = to
	}
	w.gateway("edge", replica.addr("grpc"), func(listener, _ node) {
		manager := connectionManager(listener)
		shorten(manager, "request_headers_timeout", "0.3s")
		common, _ := manager["common_http_protocol_options"].(node)
		if common == nil {
			t.Fatal("envoy.yaml does not set common_http_protocol_options, want it set")
		}
		shorten(common, "max_stream_duration", "1s")
		for _, route := range at(manager, "route_config", "virtual_hosts", 0, "routes").([]any) {
			if action, ok := route.(node)["route"].(node); ok {
				action["timeout"] = "0s" // as a route with streams has it
			}
		}
	})
	url := w.envoy()["edge"]
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}

	t.Run("half-sent headers", func(t *testing.T) {
		conn := dial()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408") {
			t.Errorf("%q %v, want 408 and the end of the connection", answer, err)
		}
	})
	t.Run("a stream without end", func(t *testing.T) {
		eventually.Succeeds(t, "the stream begins and is ended by the gateway", func() error {
			conn := dial()
			_, _ = io.WriteString(conn, "GET /public/x HTTP/1.1\r\nHost: x\r\n\r\n")
			answer, err := io.ReadAll(conn)
			if !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				return fmt.Errorf("%.100q, want 200 first", answer)
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Errorf("the stream goes on after 20 s, want it ended after max_stream_duration")
			}
			return nil
		})
	})
}

// At most so many clients are connected at once.
func TestEdgeConnectionLimit(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})
	w.gateway("edge", w.GRPC[0], nil)
	w.change = func(bootstrap node) {
		if bootstrap["overload_manager"] == nil {
			t.Fatal("envoy.yaml does not limit the connections, want an overload_manager")
		}
		monitor := at(bootstrap, "overload_manager", "resource_monitors", 0, "typed_config").(node)
		monitor["max_active_downstream_connections"] = 2
	}
	url := w.envoy()["edge"]
	alive := func(conn net.Conn) bool {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
		n, _ := conn.Read(make([]byte, 1))
		return n == 1
	}
	for i, want := range []bool{true, true, false, false} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := alive(conn); got != want {
			t.Errorf("connection %d is answered: %t, want %t", i+1, got, want)
		}
	}
}
