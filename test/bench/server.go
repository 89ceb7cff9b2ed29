package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// server is a running server of Checks.
type server struct {
	*process
	name    string
	addr    string // of Checks
	metrics string // page of metrics; empty: none
	pprof   string // address of profiles; empty: none
	denies  bool   // it knows the revoked tokens

	unseen atomic.Int64 // number of the last token that was never seen
}

// plain starts a server of this program.
func (p *processes) plain(ctx context.Context, dir, kind, keys string) (*server, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := p.start(ctx, filepath.Join(dir, kind+".log"), []string{asServer + "=" + kind}, path, keys)
	if err != nil {
		return nil, err
	}
	addr, err := c.line("listening", strings.TrimSpace)
	return &server{process: c, name: kind, addr: addr}, err
}

// hits returns how often the server found a token in its cache, and how often not.
func (s *server) hits() (hits, misses float64, err error) {
	if s.metrics == "" {
		return 0, 0, nil
	}
	if hits, err = metric(s.metrics, "rescind_token_cache_hits_total"); err != nil {
		return 0, 0, err
	}
	misses, err = metric(s.metrics, "rescind_token_cache_misses_total")
	return hits, misses, err
}

var pages = http.Client{Timeout: 30 * time.Second}

// metric returns a metric without labels from a page of metrics.
func metric(page, name string) (float64, error) {
	r, err := pages.Get(page) //nolint:noctx // it has a timeout
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
