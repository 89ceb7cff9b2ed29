package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// refusal is a module or a configuration that Envoy refuses. Envoy reads both as at a
// start, with --mode validate.
type refusal struct {
	name    string
	edit    [3]string // a file of the module's sources, a text in it, and another text in its place
	none    bool      // there is no module
	setting string    // of the filter, in place of the good one
	route   string    // a setting of a route
	want    string    // in the output; empty: Envoy takes it
}

func TestEnvoyRefusesAModuleThatDoesNotFit(t *testing.T) {
	withoutRace(t) // nothing of this test is Go
	t.Parallel()
	needEnvoy(t)
	built, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "known.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	good := fmt.Sprintf("socket=%s uid=%d", socket, os.Getuid())
	for _, c := range []refusal{
		{name: "the module and the configuration that fit"},
		{name: "no module", none: true, want: "librescind.so"},
		{name: "a module for another Envoy", edit: [3]string{"fits.c", `{"1.40."}`, `{"1.39."}`}, want: "built for Envoy 1.39.x and is not used with another one"},
		{name: "an Envoy without a callback", edit: [3]string{"abi.h", "http_clear_route_cache)(void *filter)", `http_clear_route_cache)(void *filter) __asm__("of_tomorrow")`}, want: "is not used with another one"},
		{name: "no user", setting: "socket=" + socket, want: "needs socket=PATH, an absolute path, and uid=NUMBER"},
		{name: "a relative path", setting: "socket=known.sock uid=1", want: "needs socket=PATH, an absolute path"},
		{name: "a setting that does not exist", setting: good + " audit=1", want: `"audit" in the configuration of the filter is faulty`},
		{name: "a path that is too long", setting: "socket=/" + strings.Repeat("x", 200) + " uid=1", want: "the path is too long"},
		{name: "a policy in the configuration of a route", route: "policy=default", want: "the module takes no configuration of a route"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := built
			switch {
			case c.none:
				dir = t.TempDir()
			case c.edit[0] != "":
				dir = editedModule(t, c.edit)
			}
			setting := good
			if c.setting != "" {
				setting = c.setting
			}
			out, err := validate(t, dir, setting, c.route)
			if (err == nil) != (c.want == "") || !strings.Contains(out, c.want) {
				t.Errorf("got %v, want a refusal with %q. The output is\n%s", err, c.want, out)
			}
		})
	}
	// The thread of the module would have connected 10 ms after the filter was read, while
	// Envoy reads the second listener.
	if first := firstPeer(t, l, socket); first != os.Getpid() {
		t.Error("an Envoy that validates has connected to the replica, want no connection")
	}
}

// firstPeer connects to a socket, and returns the process of the first connection that
// its listener has.
func firstPeer(t *testing.T, l *net.UnixListener, socket string) (pid int) {
	t.Helper()
	own, err := net.Dial("unixpacket", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	first, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	raw, err := first.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if fault := raw.Control(func(fd uintptr) {
		var peer *unix.Ucred
		if peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	}); fault != nil || err != nil {
		t.Fatal(fault, err)
	}
	return pid
}

// editedModule builds the module from changed sources, and returns its folder.
func editedModule(t *testing.T, edit [3]string) string {
	t.Helper()
	sources := t.TempDir()
	if err := os.CopyFS(sources, os.DirFS("../envoy/module")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(sources, edit[0])
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), edit[1]) {
		t.Fatalf("%s: got %v, want %s in it", file, err, edit[1])
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), edit[1], edit[2], 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeModule(sources, sources); err != nil {
		t.Fatal(err)
	}
	return sources
}

// validate lets Envoy read a configuration with the module, and returns the output.
func validate(t *testing.T, dir, setting, route string) (string, error) {
	t.Helper()
	perRoute := ""
	if route != "" {
		perRoute = fmt.Sprintf(`
            typed_per_filter_config:
              rescind:
                "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute
                dynamic_module_config: {name: rescind}
                per_route_config_name: rescind
                filter_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: %q}`, route)
	}
	config := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, refusalBootstrap, perRoute, setting, strings.Repeat(slowRoute, 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	envoy := exec.CommandContext(ctx, gateway, "--mode", "validate", "-c", config, "--log-level", "warning")
	envoy.Env = append(os.Environ(), "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+dir)
	out, err := envoy.CombinedOutput()
	return string(out), err
}

const refusalBootstrap = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          route_config:
            virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]
%s
          http_filters:
          - name: rescind
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
              dynamic_module_config: {name: rescind}
              filter_name: rescind
              filter_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: %q}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  - address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: slow
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
%s`

// slowRoute is a route that takes Envoy some time to read.
const slowRoute = `              - {match: {safe_regex: {regex: "/[a-z]{1,20}/[0-9]{1,20}/.*"}}, direct_response: {status: 200}}
`
