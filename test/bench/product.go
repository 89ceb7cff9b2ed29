package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// product is this product as its binary: a control endpoint with a number of
// revocations, and replicas that follow it.
type product struct {
	*processes
	dir, binary string
	keys        string // file of the issuer's keys
	entries     int
	control     *process
	admin, feed string // addresses of the control endpoint
	settings    string // more settings of the replicas
	replicas    int    // started
	imported    int    // other revocations
}

const (
	adminSecret = "an-operator-of-the-benchmark-alone"
	feedSecret  = "a-replica-of-the-benchmark-alone"
)

// build builds the product as a release does. profiles adds a listener for profiles,
// which the product has in no other build.
func build(ctx context.Context, binary string, profiles bool) error {
	tags := "release"
	if profiles {
		tags += ",pprof"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-tags", tags, "-o", binary, "rescind/cmd/rescind") //nolint:gosec // our own
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building rescind: %w\n%s", err, out)
	}
	return nil
}

// newProduct starts a control endpoint with so many revocations besides those of the
// tokens that are revoked.
func (p *processes) newProduct(ctx context.Context, dir, binary, keys, name string, entries int) (*product, error) {
	d := &product{processes: p, dir: filepath.Join(dir, name), binary: binary, keys: keys, entries: entries, imported: max(entries, 0)}
	if err := d.layOut(); err != nil {
		return nil, err
	}
	if err := d.fill(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *product) layOut() error {
	digest := func(secret string) string {
		sum := sha256.Sum256([]byte(secret))
		return hex.EncodeToString(sum[:])
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"control.yaml": fmt.Sprintf(`http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %s}]}
store: {dir: store, retention: 720h}
admin: {tokens: [{name: bench, sha256: %s, roles: [operator]}]}
log: {level: info, format: json}
`, digest(feedSecret), digest(adminSecret)),
		"replica.token": feedSecret + "\n",
		"admin.token":   adminSecret + "\n",
	} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startControl starts the control endpoint. It has a lower priority, because in a
// deployment it does not share the processors of the replica.
func (d *product) startControl(ctx context.Context) (err error) {
	d.control, err = d.start(ctx, filepath.Join(d.dir, "control.log"), nil, "nice", "-n", "10", d.binary, "control", "--config", filepath.Join(d.dir, "control.yaml"))
	if err != nil {
		return err
	}
	if d.feed, err = d.control.listening("feed"); err != nil {
		return err
	}
	d.admin, err = d.control.listening("admin")
	return err
}

// replica starts an empty replica, and waits until it has all revocations.
func (d *product) replica(ctx context.Context) (*server, error) {
	d.replicas++
	name := "replica-" + strconv.Itoa(d.replicas)
	path := func(suffix string) string { return filepath.Join(d.dir, name+suffix) }
	if err := os.WriteFile(path(".yaml"), fmt.Appendf(nil, `grpc: {listen: "127.0.0.1:0"}
http: {listen: "127.0.0.1:0"}
issuers: [{issuer: %q, jwks_file: %q, audiences: [api]}]
revocation: {control: [%q], token_file: replica.token, name: %s}
log: {level: info, format: json, decisions: {output: "file:%s"}}
%s`, issuerName, d.keys, d.feed, name, path(".decisions.log"), d.settings), 0o600); err != nil {
		return nil, err
	}
	c, err := d.start(ctx, path(".log"), []string{"RESCIND_PPROF=127.0.0.1:0"}, d.binary, "authz", "--config", path(".yaml"))
	if err != nil {
		return nil, err
	}
	s := &server{process: c, name: fmt.Sprintf("rescind, %s revocations", thousands(d.entries)), denies: d.entries >= 0}
	if s.addr, err = c.listening("grpc"); err != nil {
		return nil, err
	}
	page, err := c.listening("http")
	if err != nil {
		return nil, err
	}
	s.metrics = "http://" + page + "/metrics"
	return s, d.caughtUp(s)
}

// caughtUp waits until a replica has as many revocations as the control endpoint.
func (d *product) caughtUp(s *server) error {
	return s.until("at the revision of its control endpoint", func() bool {
		want, err := metric("http://"+d.admin+"/metrics", "rescind_control_revision")
		if err != nil {
			return false
		}
		held, err := metric(s.metrics, "rescind_revision")
		return err == nil && held >= want
	})
}

// fill starts the control endpoint with the revocations.
func (d *product) fill(ctx context.Context) error {
	store := filepath.Join(d.dir, "store")
	kept, err := keptStore(d.entries)
	if err != nil {
		return err
	}
	keep := d.entries >= worthKeeping
	if keep && kept.usable() {
		if err := kept.copyTo(store); err != nil {
			return err
		}
		return d.startControl(ctx)
	}
	if err := d.startControl(ctx); err != nil {
		return err
	}
	if keep {
		note("importing %s revocations, once; their store stays in %s", thousands(d.entries), kept.path)
	}
	if err := d.importEntries(ctx, true, 0, d.entries); err != nil || !keep {
		return err
	}
	if err := d.end(d.control); err != nil {
		return err
	}
	if err := kept.keep(store); err != nil {
		return err
	}
	return d.startControl(ctx)
}

// importEntries revokes other tokens, numbered from from to before to. ended revokes
// the tokens of the benchmark that are revoked, too.
func (d *product) importEntries(ctx context.Context, ended bool, from, to int) (err error) {
	if to < 0 {
		return nil
	}
	path := filepath.Join(d.dir, "import.ndjson")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	w := bufio.NewWriterSize(f, 1<<20)
	for _, alg := range algorithms {
		for n := range fewEnded {
			if ended {
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"claims":{"jti":%q}}`+"\n", issuerName, endedID(alg, n))
			}
		}
	}
	for n := from; n < to; n++ {
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"claims":{"jti":"other-%d"}}`+"\n", issuerName, n)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, d.binary, "import", path, "--control", "http://"+d.admin, "--token-file", filepath.Join(d.dir, "admin.token"), "--yes") //nolint:gosec // our own
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("importing revocations: %w\n%s", err, last(string(out), 2000))
	}
	return nil
}

// thousands returns a number as people read it.
func thousands(n int) string {
	switch {
	case n > 0 && n%1_000_000 == 0:
		return fmt.Sprint(n/1_000_000, " million")
	case n <= 0:
		return "no"
	}
	return strconv.Itoa(n)
}
