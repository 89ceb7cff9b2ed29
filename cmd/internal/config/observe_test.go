package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var observeFaults = []faulty{
	{"log: {decisions: {denied: §1.1, allowed: §-0.1, output: §syslog}}\n", []string{
		`log.decisions.denied: "1.1" is not a share from 0 (none) to 1 (all)`,
		`log.decisions.allowed: "-0.1" is not a share from 0 (none) to 1 (all)`,
		`log.decisions.output: "syslog" is not one of stdout, stderr, otlp, file:PATH`,
	}},
	{"log: {decisions: {denied: §NaN, allowed: §all}}\n", []string{
		`log.decisions.denied: "NaN" is not a share from 0 (none) to 1 (all)`,
		`log.decisions.allowed: "all" is not a share from 0 (none) to 1 (all)`,
	}},
	{"log: {decisions: {max_per_second: §0}}\n", []string{`log.decisions.max_per_second: "0" is not a whole number from 1 to 1000000`}},
	{"log: {decisions: {max_per_second: §none}}\n", []string{`log.decisions.max_per_second: "none" is not a whole number from 1 to 1000000`}},
	{"log: {decisions: {output: §'file:'}}\n", []string{`log.decisions.output: "file:" is not one of stdout, stderr, otlp, file:PATH`}},
	{"log: {decisions: {max_size_mb: §10, max_files: §3, collector: §{endpoint: 127.0.0.1:1}}}\n", []string{
		"log.decisions.max_size_mb: is for output: file:PATH; remove it",
		"log.decisions.max_files: is for output: file:PATH; remove it",
		"log.decisions.collector: is for output: otlp; remove it",
	}},
	{"log: {decisions: {output: 'file:d.log', max_size_mb: §0, max_files: §1.5}}\n", []string{
		`log.decisions.max_size_mb: "0" is not a whole number from 1 to 100000`,
		`log.decisions.max_files: "1.5" is not a whole number from 2 to 10000`,
	}},
	{"log: {decisions: {output: §otlp}}\n", []string{
		"log.decisions.output: otlp needs to know where the collector is: set log.decisions.collector, or tracing",
	}},
	{"log: {decisions: {output: otlp, collector: §{protocol: grpc}}}\n", []string{
		"log.decisions.collector: needs endpoint: where the collector is, such as https://otel.example.com:4317",
	}},
	{"tracing: §5\n", []string{`tracing: "5" is not a mapping (key: value)`}},
	{"tracing: §{sample_ratio: 1}\n", []string{"tracing: needs endpoint: where the collector is, such as https://otel.example.com:4317"}},
	{"tracing: {endpoint: §http://otel:4317}\n", []string{
		"tracing.endpoint: http://otel:4317 is reached over the network, and decisions with their subjects would travel in the clear: write https://, or add plaintext: true if something else encrypts",
	}},
	{"tracing: {endpoint: 'otel:4317', plaintext: §true}\n", []string{"tracing.plaintext: contradicts https://otel:4317; keep one of them"}},
	{"tracing: {endpoint: §https://otel:4317/v1/traces}\n", []string{"tracing.endpoint: has a path (/v1/traces), which gRPC does not use: remove it, or set protocol: http"}},
	{"tracing: {endpoint: §https://otel}\n", []string{"tracing.endpoint: needs a port, such as :4317"}},
	{"tracing: {protocol: http, endpoint: §'https://otel/?key=s3cret'}\n", []string{"tracing.endpoint: has a query (?); credentials for the collector go into headers_file"}},
	{"tracing: {endpoint: §'grpc://otel:4317'}\n", []string{`tracing.endpoint: "grpc://otel:4317" is not a URL with a host; write it as https://idp.example.com/`}},
	{"tracing: {endpoint: §otel}\n", []string{`tracing.endpoint: "otel" is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets; or as https://otel.example.com:4317`}},
	{"tracing: {endpoint: 127.0.0.1:1, protocol: §thrift, max_per_second: §0, ca_file: §cert.pem}\n", []string{
		`tracing.protocol: "thrift" is not one of grpc, http`,
		`tracing.max_per_second: "0" is not a whole number from 1 to 1000000`,
		"tracing.ca_file: is for https; http://127.0.0.1:1 is reached without TLS",
	}},
	{"tracing: {endpoint: 127.0.0.1:1, headers_file: §replica.token}\n", []string{
		"tracing.headers_file: line 1 of DIR/replica.token is not a header; write it as name: value, in ASCII",
	}},
	{"tracing: {endpoint: 127.0.0.1:1, headers_file: §empty.token}\n", []string{
		"tracing.headers_file: DIR/empty.token has no header in it; write each as name: value",
	}},
}

func TestObserveFaults(t *testing.T) { testFaults(t, "authz", observeFaults) }

func TestObserve(t *testing.T) {
	dir := folderOf(t)
	path := filepath.Join(dir, "x.yaml")
	write(t, filepath.Join(dir, "otlp.headers"), "Authorization: Bearer x\n\nx-scope: a: b\r\n")
	read := func(text string) *Authz {
		t.Helper()
		return mustAuthz(t, path, text+baseIssuers+baseRevocation)
	}
	a := read("log: {decisions: {denied: 0.5, allowed: 0, max_per_second: 9, output: 'file:logs/d.log', max_size_mb: 7, max_files: 3}}\n")
	if d, want := a.Decisions, (Decisions{
		Output: "file", File: filepath.Join(dir, "logs/d.log"), MaxSizeMB: 7, MaxFiles: 3,
	}); d != want || a.Shares != (Shares{Denied: .5, MaxPerSecond: 9}) {
		t.Errorf("decisions: %+v with shares %+v, want %+v with 0.5, 0 and 9", d, a.Shares, want)
	}
	a = read("log: {decisions: {output: otlp}}\ntracing: {endpoint: 'otel:4317', headers_file: otlp.headers, ca_file: cert.pem, sample_ratio: 1}\n")
	want := Collector{URL: "https://otel:4317", Protocol: "grpc", HeadersFile: filepath.Join(dir, "otlp.headers"), CAFile: filepath.Join(dir, "cert.pem")}
	if a.Tracing == nil || *a.Tracing != (Tracing{want, 200}) || a.TraceRatio != 1 || a.Decisions.Collector == nil || *a.Decisions.Collector != want {
		t.Errorf("tracing %+v and decisions %+v, want the collector %+v in both", a.Tracing, a.Decisions, want)
	}
	a = read("log: {decisions: {output: otlp, collector: {endpoint: 'http://[::1]:4318/base/', protocol: http}}}\ntracing: {endpoint: 'http://otel:4317', plaintext: true, sample_ratio: 0}\n")
	if a.Decisions.Collector.URL != "http://[::1]:4318/base" || a.Tracing.URL != "http://otel:4317" || a.TraceRatio != 0 {
		t.Errorf("decisions go to %+v and spans to %+v, want [::1]:4318/base and otel:4317", a.Decisions.Collector, a.Tracing)
	}
	if read("tracing: {endpoint: , protocol: }\n").Tracing != nil {
		t.Error("a section tracing without values: got tracing on, want off")
	}
	headers, err := ReadHeaders(filepath.Join(dir, "otlp.headers"))
	if err != nil || !reflect.DeepEqual(headers, map[string]string{"authorization": "Bearer x", "x-scope": "a: b"}) {
		t.Errorf("the headers are %v, %v, want two", headers, err)
	}
	write(t, filepath.Join(dir, "otlp.headers"), "a: s3cret\nA: s3cret\n")
	if _, err := ReadHeaders(filepath.Join(dir, "otlp.headers")); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a repeated header: %v, want an error without its value", err)
	}
}
