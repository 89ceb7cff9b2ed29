// Command bench measures the cost of a Check. It starts servers side by side, drives
// them by turns with one generator, and prints a table in Markdown.
//
//	go run ./test/bench
//	go run ./test/bench -entries 0,1000000,10000000 -rounds 5 -seconds 4
//
// # Servers
//
// "no-op" is an ext_authz server on grpc-go with the standard codec, which decides
// nothing and allows everything. "golang-jwt" verifies the token with golang-jwt and
// keyfunc behind the same codec, and knows no revocations. "rescind" is this product
// as its binary, with a control endpoint of its own for each number of revocations.
//
// # Traffic
//
// "seen" are a hundred tokens over and over. "never seen" are tokens of which none
// comes again before the replica has forgotten it. "revoked" are revoked tokens. "one
// new in twenty" is 19 in 20 of the first kind and one of the second. Every server gets
// each kind of traffic, so that ratios compare the same messages.
//
// # Measurement
//
// Processor time is that of the threads of the server (Linux only), so it does not
// depend much on the other work of the machine. Requests a second and latencies do, and
// the generator shares the processors with the server. Each figure is the median of
// the rounds, with the lowest and the highest.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		serve(context.Background(), os.Args[2], os.Args[3])
		return
	}
	o := options{}
	entries := flag.String("entries", "0,1000000", "numbers of revocations, one replica each")
	algorithms := flag.String("algorithms", "RS256,ES256", "algorithms of the tokens")
	traffic := flag.String("traffic", strings.Join(kinds, ","), "kinds of traffic")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds, in each of which every server gets each kind of traffic")
	flag.Float64Var(&o.seconds, "seconds", 2, "length of one turn")
	flag.IntVar(&o.inFlight, "in-flight", 64, "Checks under way at a time")
	flag.IntVar(&o.unseen, "unseen", 20_000, "tokens that are never seen; more than the replica remembers")
	flag.StringVar(&o.output, "o", "", "file for the table, besides standard output")
	flag.Parse()
	for text := range strings.SplitSeq(*entries, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			fmt.Fprintf(os.Stderr, "-entries: %q is not a number of revocations\n", text)
			os.Exit(2)
		}
		o.entries = append(o.entries, n)
	}
	o.algorithms, o.kinds = strings.Split(*algorithms, ","), strings.Split(*traffic, ",")
	for _, kind := range o.kinds {
		if !slices.Contains(kinds, kind) {
			fmt.Fprintf(os.Stderr, "-traffic: %q is not one of %s\n", kind, strings.Join(kinds, ", "))
			os.Exit(2)
		}
	}
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	entries          []int
	algorithms       []string
	kinds            []string
	rounds, inFlight int
	unseen           int
	seconds          float64
	output           string
}

// run starts the servers, measures, and prints the table.
func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "rescind-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var processes processes
	defer processes.stop()

	note("making tokens")
	issuer, err := newIssuer(o.algorithms, filepath.Join(dir, "jwks.json"))
	if err != nil {
		return err
	}
	var servers []*server
	for _, kind := range []string{"no-op", "golang-jwt"} {
		s, err := processes.self(ctx, dir, kind, issuer.file)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	if len(o.entries) > 0 {
		note("building rescind")
	}
	for _, n := range o.entries {
		note("starting rescind with %d revocations", n)
		s, err := processes.product(ctx, dir, issuer, n)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	var t table
	for _, alg := range o.algorithms {
		note("signing %d tokens with %s", o.unseen, alg)
		traffic, err := issuer.traffic(alg, o.unseen)
		if err != nil {
			return err
		}
		for round := range o.rounds {
			note("%s, round %d of %d", alg, round+1, o.rounds)
			for _, kind := range o.kinds {
				for i := range servers {
					s := servers[(i+round)%len(servers)] // each server is first in turn
					m, err := measure(ctx, s, traffic, kind, o)
					if err != nil {
						return fmt.Errorf("%s, %s, %s: %w", s.name, alg, kind, err)
					}
					t.add(alg, kind, s.name, m)
				}
			}
		}
	}
	text := t.markdown(o, servers)
	fmt.Print(text)
	if o.output != "" {
		return os.WriteFile(o.output, []byte(text), 0o644) //nolint:gosec // a table for everybody
	}
	return nil
}

var began = time.Now()

// note tells the user on standard error how far the run is.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
}
