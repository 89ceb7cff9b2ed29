package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// server is a running server.
type server struct {
	name string
	addr string // of Checks
	pid  int

	unseen atomic.Int64 // number of the last token that was never seen
}

// processes are the started processes. They end with the benchmark.
type processes struct{ all []*exec.Cmd }

func (p *processes) stop() {
	for _, c := range p.all {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// start starts a command and returns the value of address from its output.
func (p *processes) start(c *exec.Cmd, log string, address func(line string) string) (string, error) {
	out, err := os.Create(log) //nolint:gosec // a path of the benchmark's own
	if err != nil {
		return "", err
	}
	defer func() { _ = out.Close() }()
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		return "", err
	}
	p.all = append(p.all, c)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(log) //nolint:gosec // a path of the benchmark's own
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			if addr := address(line); addr != "" {
				return addr, nil
			}
		}
	}
	text, _ := os.ReadFile(log) //nolint:gosec // a path of the benchmark's own
	return "", fmt.Errorf("%s did not listen within 30 s; it wrote:\n%s", c.Args, text)
}

// self starts a server of this program.
func (p *processes) self(ctx context.Context, dir, kind, keys string) (*server, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, path, "serve", kind, keys) //nolint:gosec // this program
	addr, err := p.start(c, filepath.Join(dir, kind+".log"), strings.TrimSpace)
	if err != nil {
		return nil, err
	}
	return &server{name: kind, addr: addr, pid: c.Process.Pid}, nil
}

// listening returns the address of the listener of this name that a line of the log
// of rescind names.
func listening(name string) func(string) string {
	return func(line string) string {
		if !strings.Contains(line, `"msg":"listening"`) || !strings.Contains(line, `"name":"`+name+`"`) {
			return ""
		}
		_, addr, _ := strings.Cut(line, `"addr":"`)
		addr, _, _ = strings.Cut(addr, `"`)
		return addr
	}
}

// product builds rescind, starts a control endpoint and a replica, and imports so many
// revocations besides those of the revoked tokens.
func (p *processes) product(ctx context.Context, dir string, i *issuer, entries int) (*server, error) {
	dir = filepath.Join(dir, "rescind-"+strconv.Itoa(entries))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	binary := filepath.Join(filepath.Dir(dir), "rescind")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "rescind/cmd/rescind").CombinedOutput(); err != nil { //nolint:gosec // our own
		return nil, fmt.Errorf("building rescind: %w\n%s", err, out)
	}
	const secret = "a-secret-of-the-benchmark-alone"
	sum := sha256.Sum256([]byte(secret))
	feedSum := sha256.Sum256([]byte(secret + "-feed"))
	control, authz := filepath.Join(dir, "control.yaml"), filepath.Join(dir, "authz.yaml")
	for path, text := range map[string]string{
		control: fmt.Sprintf(`http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %s}]}
store: {dir: %q, retention: 720h}
admin: {tokens: [{name: bench, sha256: %s, roles: [operator]}]}
log: {level: info, format: json}
`, hex.EncodeToString(feedSum[:]), filepath.Join(dir, "store"), hex.EncodeToString(sum[:])),
		filepath.Join(dir, "replica.token"): secret + "-feed\n",
		filepath.Join(dir, "admin.token"):   secret + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	log := filepath.Join(dir, "control.log")
	feed, err := p.start(exec.CommandContext(ctx, binary, "control", "--config", control), log, listening("feed")) //nolint:gosec // our own
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(log) //nolint:gosec // a path of the benchmark's own
	if err != nil {
		return nil, err
	}
	admin := ""
	for line := range strings.Lines(string(text)) {
		if addr := listening("admin")(line); addr != "" {
			admin = addr
		}
	}
	if err := os.WriteFile(authz, []byte(fmt.Sprintf(`grpc: {listen: "127.0.0.1:0"}
http: {listen: "127.0.0.1:0"}
issuers: [{issuer: %q, jwks_file: %q, audiences: [api]}]
revocation: {control: [%q], token_file: replica.token, name: bench}
log: {level: info, format: json, decisions: {output: "file:%s"}}
`, issuerName, i.file, feed, filepath.Join(dir, "decisions.log"))), 0o600); err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, binary, "authz", "--config", authz) //nolint:gosec // our own
	log = filepath.Join(dir, "authz.log")
	addr, err := p.start(c, log, listening("grpc"))
	if err != nil {
		return nil, err
	}
	if err := importEntries(ctx, binary, dir, admin, i, entries); err != nil {
		return nil, err
	}
	page, err := p.page(log)
	if err != nil {
		return nil, err
	}
	if err := caughtUp(page, entries); err != nil {
		return nil, err
	}
	return &server{name: fmt.Sprintf("rescind, %s revocations", thousands(entries)), addr: addr, pid: c.Process.Pid}, nil
}

// page returns the address of the metrics of a replica.
func (p *processes) page(log string) (string, error) {
	text, err := os.ReadFile(log) //nolint:gosec // a path of the benchmark's own
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if addr := listening("http")(line); addr != "" {
			return "http://" + addr + "/metrics", nil
		}
	}
	return "", errors.New("the replica has not logged the address of its metrics")
}

// importEntries revokes the tokens to revoke, and so many others.
func importEntries(ctx context.Context, binary, dir, admin string, i *issuer, entries int) (err error) {
	path := filepath.Join(dir, "import.ndjson")
	f, err := os.Create(path) //nolint:gosec // a path of the benchmark's own
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	w := bufio.NewWriterSize(f, 1<<20)
	for alg := range i.keys {
		for n := range fewEnded {
			_, _ = fmt.Fprintf(w, `{"issuer":%q,"claims":{"jti":%q}}`+"\n", issuerName, endedID(alg, n))
		}
	}
	for n := range entries {
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"claims":{"jti":"other-%d"}}`+"\n", issuerName, n)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, binary, "import", path, "--control", "http://"+admin, "--token-file", filepath.Join(dir, "admin.token"), "--yes") //nolint:gosec // our own
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("importing revocations: %w\n%s", err, out)
	}
	return nil
}

// caughtUp waits until a replica has so many revocations.
func caughtUp(page string, entries int) error {
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if n, err := metric(page, "rescind_revocations"); err == nil && int(n) > entries {
			return nil
		}
	}
	return fmt.Errorf("the replica did not have %d revocations within 5 minutes", entries)
}

// metric returns a metric without labels from a page of metrics.
func metric(page, name string) (float64, error) {
	r, err := http.Get(page) //nolint:gosec,noctx // our own replica
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Body.Close() }()
	for scanner := bufio.NewScanner(r.Body); scanner.Scan(); {
		if value, ok := strings.CutPrefix(scanner.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", page, name)
}

// processorTime returns the processor time that a process has used.
func (s *server) processorTime() (ran time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("the threads of %s are not known; this needs Linux, and the process to live", s.name)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path) //nolint:gosec // of the system
		if err != nil {
			continue // the thread is gone
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		ran += time.Duration(ns)
	}
	return ran, nil
}

// resident returns the resident memory of a process in MiB.
func (s *server) resident() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024
		}
	}
	return 0
}

// thousands returns a number as people read it.
func thousands(n int) string {
	switch {
	case n > 0 && n%1_000_000 == 0:
		return fmt.Sprint(n/1_000_000, " million")
	case n == 0:
		return "no"
	}
	return strconv.Itoa(n)
}
