package test

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// oneWay is the added delay between Envoy and a central replica, in each direction.
const oneWay = 500 * time.Microsecond

// TestTopologies measures a request through Envoy with the replica beside it, on
// its machine, and across a network with mutual TLS. The network is a TCP proxy of
// the test that delays each piece.
func TestTopologies(t *testing.T) {
	if os.Getenv("RESCIND_LONG") == "" {
		t.Skip("this measurement runs with RESCIND_LONG=1")
	}
	w := newRig(t, envoytest.Options{Replicas: 1})
	w.issue("server")
	w.issue("client")
	socket := filepath.Join(t.TempDir(), "authz.sock")
	w.replica("beside", w.config("beside", fmt.Sprintf("{listen: %q}", "unix://"+socket), "    audiences: [api]", ""))
	local := w.replica("node", w.config("node", "{listen: 127.0.0.1:0}", "    audiences: [api]", ""))
	central := w.replica("central", w.config("central",
		fmt.Sprintf("{listen: 127.0.0.1:0, tls: {cert_file: %q, key_file: %q, client_ca_file: %q}}", w.file("server.pem"), w.file("server.key"), w.file("ca.pem")),
		"    audiences: [api]", ""))
	secure := func(_, cluster node) {
		cluster["transport_socket"] = transport("UpstreamTlsContext", node{"common_tls_context": node{
			"alpn_protocols":     []any{"h2"},
			"tls_certificates":   []any{node{"certificate_chain": node{"filename": w.file("client.pem")}, "private_key": node{"filename": w.file("client.key")}}},
			"validation_context": node{"trusted_ca": node{"filename": w.file("ca.pem")}},
		}})
	}
	w.gateway("no check", local.addr("grpc"), func(listener, _ node) {
		manager := connectionManager(listener)
		var kept []any
		for _, f := range at(manager, "http_filters").([]any) {
			if f.(node)["name"] != "envoy.filters.http.ext_authz" {
				kept = append(kept, f)
			}
		}
		manager["http_filters"] = kept
		for _, route := range at(manager, "route_config", "virtual_hosts", 0, "routes").([]any) {
			delete(route.(node), "typed_per_filter_config")
		}
	})
	w.gateway("sidecar", "unix://"+socket, nil)
	w.gateway("node", local.addr("grpc"), nil)
	w.gateway("central, no delay", central.addr("grpc"), secure)
	w.gateway("central", delayed(t, central.addr("grpc")), secure)
	urls := w.envoy()
	names := []string{"no check", "sidecar", "node", "central, no delay", "central"}
	client, token := &http.Client{Timeout: 20 * time.Second}, minted(t, w.Stack, nil)
	for _, name := range names {
		eventually.True(t, name+" answers 200", func() bool { return w.get(client, urls[name], token).Status == http.StatusOK })
	}
	const rounds, requests = 5, 1000
	p50, p99 := map[string][]time.Duration{}, map[string][]time.Duration{}
	for range rounds {
		for _, name := range names {
			took := make([]time.Duration, requests)
			for i := range took {
				begun := time.Now()
				if a := w.get(client, urls[name], token); a.Status != http.StatusOK {
					t.Fatalf("%s: got %d, want 200", name, a.Status)
				}
				took[i] = time.Since(begun)
			}
			slices.Sort(took)
			p50[name], p99[name] = append(p50[name], took[requests/2]), append(p99[name], took[requests*99/100])
		}
	}
	for _, name := range names {
		slices.SortFunc(p50[name], cmp.Compare)
		slices.SortFunc(p99[name], cmp.Compare)
		t.Logf("%-18s p50 %v (%v to %v), p99 %v (%v to %v)", name, p50[name][rounds/2], p50[name][0], p50[name][rounds-1], p99[name][rounds/2], p99[name][0], p99[name][rounds-1])
	}
}

// delayed returns the address of a proxy to addr that passes each piece on after
// oneWay, in both directions.
func delayed(t *testing.T, addr string) string {
	t.Helper()
	return accepting(t, func(in net.Conn) {
		out, err := net.Dial("tcp", addr)
		if err != nil {
			_ = in.Close()
			return
		}
		go passLate(in, out)
		passLate(out, in)
	})
}

// passLate copies from one end to the other until an end is closed, and closes both.
func passLate(from, to net.Conn) {
	type piece struct {
		due  time.Time
		text []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer func() { _, _ = from.Close(), to.Close() }()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.text); err != nil {
				break
			}
		}
		for range pieces { // the reader must not wait
		}
	}()
	defer close(pieces)
	for {
		text := make([]byte, 64<<10)
		n, err := from.Read(text)
		if n > 0 {
			pieces <- piece{time.Now().Add(oneWay), text[:n]}
		}
		if err != nil {
			return
		}
	}
}
