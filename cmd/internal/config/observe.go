package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"rescind/authz"
	"rescind/jwks/loopback"
)

// Decisions says where decisions are recorded.
type Decisions struct {
	Output    string // stdout, stderr, file or otlp
	File      string // with file: its path
	MaxSizeMB int    // of it, before it is rotated
	MaxFiles  int    // that stay, it included
	Collector *Collector
}

// Shares says how many of the decisions are recorded.
type Shares struct {
	Denied, Allowed float64 // from 0 (none) to 1 (all)
	MaxPerSecond    int     // lines of the denials of one reason from one network
}

// Tracing says where decisions are recorded as spans.
type Tracing struct {
	Collector
	MaxPerSecond int // spans
}

// Collector says where an OpenTelemetry collector is, and its protocol.
type Collector struct {
	URL         string // http:// is plaintext, which the configuration allows here
	Protocol    string // grpc or http
	HeadersFile string // see [ReadHeaders]; empty: none
	CAFile      string
}

// findCollector gives the decision log the collector of tracing, if it names none
// itself. v is the whole configuration.
func (a *Authz) findCollector(v value) {
	d, own := &a.Decisions, v.at("log", "decisions", "collector")
	switch {
	case d.Output != "otlp" || d.Collector != nil:
	case a.Tracing != nil:
		c := a.Tracing.Collector
		d.Collector = &c
	case own.blank() && v.at("tracing").blank(): // a faulty collector is reported already
		v.at("log", "decisions", "output").fault("otlp needs to know where the collector is: set log.decisions.collector, or tracing")
	}
}

func readDecisions(v value, a *Authz) {
	d := &a.Decisions
	output := d.Output
	ok := v.object(keys{
		"denied":         into(&a.Shares.Denied, ratio),
		"allowed":        into(&a.Shares.Allowed, ratio),
		"max_per_second": into(&a.Shares.MaxPerSecond, count(1, 1_000_000)),
		"output":         into(&output, text()),
		"max_size_mb":    into(&d.MaxSizeMB, count(1, 100_000)),
		"max_files":      into(&d.MaxFiles, count(2, 10_000)),
		"collector":      into(&d.Collector, collectorOnly),
	})
	if !ok {
		return
	}
	path, file := strings.CutPrefix(output, "file:")
	switch {
	case file && path != "":
		d.Output, d.File = "file", v.doc.resolve(path)
	case output == "stdout", output == "stderr", output == "otlp":
		d.Output = output
	default:
		v.at("output").fault("%.60q is not one of stdout, stderr, otlp, file:PATH", output)
		return
	}
	for _, name := range []string{"max_size_mb", "max_files"} {
		if v.has(name) && !file {
			v.at(name).fault("is for output: file:PATH; remove it")
		}
	}
	if v.has("collector") && d.Output != "otlp" {
		v.at("collector").fault("is for output: otlp; remove it")
	}
}

func readTracing(v value, a *Authz) {
	share := 0.01
	t := &Tracing{MaxPerSecond: 200}
	ok := readCollector(v, &t.Collector, keys{
		"sample_ratio":   into(&share, ratio),
		"max_per_second": into(&t.MaxPerSecond, count(1, 1_000_000)),
	})
	if ok && !v.blank() {
		a.Tracing, a.TraceRatio = t, share
	}
}

func collectorOnly(v value, x **Collector) {
	c := &Collector{}
	if readCollector(v, c, keys{}) && !v.blank() {
		*x = c
	}
}

// readCollector reads the keys of a collector, and more. It returns false if there
// is no usable collector, after reporting its faults.
func readCollector(v value, c *Collector, more keys) bool {
	c.Protocol = "grpc"
	var endpoint string
	plaintext := false
	known := keys{
		"endpoint":     into(&endpoint, text()),
		"protocol":     into(&c.Protocol, choice(map[string]string{"grpc": "grpc", "http": "http"})),
		"headers_file": into(&c.HeadersFile, file(headersIn)),
		"ca_file":      into(&c.CAFile, file(certificates)),
		"plaintext":    into(&plaintext, flag),
	}
	for name, read := range more {
		known[name] = read
	}
	if !v.object(known) || v.blank() {
		return false
	}
	if endpoint == "" {
		if !v.has("endpoint") {
			v.fault("needs endpoint: where the collector is, such as https://otel.example.com:4317")
		}
		return false
	}
	u, err := endpointURL(endpoint, c.Protocol)
	if err != nil {
		v.at("endpoint").fault("%v", err)
		return false
	}
	inClear := u.Scheme == "http"
	switch {
	case inClear && c.CAFile != "":
		v.at("ca_file").fault("is for https; %s is reached without TLS", u)
	case inClear && !plaintext && !loopback.Is(u.Hostname()):
		v.at("endpoint").fault("%s is reached over the network, and decisions with their subjects would travel in the clear: write https://, or add plaintext: true if something else encrypts", u)
	case plaintext && !inClear:
		v.at("plaintext").fault("contradicts %s; keep one of them", u)
	}
	c.URL = u.String()
	return true
}

// endpointURL reads the address of a collector. host:port means plaintext on this
// machine and TLS elsewhere.
func endpointURL(s, protocol string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		if err := isAddress(s); err != nil {
			return nil, fmt.Errorf("%w; or as https://otel.example.com:4317", err)
		}
		scheme := "https://"
		if isLoopback(s) {
			scheme = "http://"
		}
		s = scheme + s
	}
	if err := isURL(s); err != nil {
		return nil, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	switch {
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("has a query (?); credentials for the collector go into headers_file")
	case protocol == "grpc" && strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("has a path (%s), which gRPC does not use: remove it, or set protocol: http", u.Path)
	case protocol == "grpc" && u.Port() == "":
		return nil, errors.New("needs a port, such as :4317")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// ratio reads a share, from 0 to 1.
func ratio(v value, x *float64) {
	parsed(func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return 0, fmt.Errorf("%.40q is not a share from 0 (none) to 1 (all)", s)
		}
		return f, nil
	})(v, x)
}

// count reads a whole number.
func count(atLeast, atMost int) as[int] {
	return parsed(func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < atLeast || n > atMost {
			return 0, fmt.Errorf("%.40q is not a whole number from %d to %d", s, atLeast, atMost)
		}
		return n, nil
	})
}

// ReadHeaders reads a file of headers, one "name: value" a line. Its error repeats
// no line, because values are credentials.
func ReadHeaders(path string) (map[string]string, error) {
	b, err := contents(path)
	if err != nil {
		return nil, err
	}
	headers := map[string]string{}
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		visible := !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
		switch _, twice := headers[name]; {
		case !ok || !authz.IsFieldName(name) || value == "" || !visible:
			return nil, fmt.Errorf("line %d of %s is not a header; write it as name: value, in ASCII", number, path)
		case twice:
			return nil, fmt.Errorf("line %d of %s repeats the name of a header", number, path)
		}
		headers[name] = value
	}
	if len(headers) == 0 {
		return nil, fmt.Errorf("%s has no header in it; write each as name: value", path)
	}
	return headers, nil
}

func headersIn(path string) error {
	_, err := ReadHeaders(path)
	return err
}
