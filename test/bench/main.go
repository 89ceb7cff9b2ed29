// Command bench measures the cost of a Check. It starts servers side by side, drives
// them by turns with one generator, and prints tables in Markdown.
//
//	go run ./test/bench                            # about five minutes
//	go run ./test/bench -full                      # ten million revocations too
//	go run ./test/bench -full -envoy               # and through a real Envoy
//	go run ./test/bench -known                     # and tokens for which Envoy answers itself
//	go run ./test/bench -markdown test/FIGURES.md  # replaces the tables there
//
// # Servers
//
// "no-op" is an ext_authz server on grpc-go with the standard codec, which decides
// nothing and allows everything. "golang-jwt" verifies the token with golang-jwt and
// keyfunc behind the same codec, and knows no revocations. "rescind" is this product
// as its binary, with a control endpoint of its own for each number of revocations.
//
// The revocations are imported through the admin API. The store of a control endpoint
// with 500,000 revocations or more is kept in the cache folder of the user, because an
// import of ten million takes minutes. A later run starts a control endpoint on a copy
// of the store, and its replica gets the whole set from there.
//
// # Traffic
//
// "seen" are a hundred tokens over and over. "never seen" are tokens of which none
// comes again before the replica has forgotten it. "revoked" are revoked tokens. "one
// new in twenty" is 19 in 20 of the first kind and one of the second. Every server gets
// each kind of traffic, so that ratios compare the same messages. The table has the
// share of the tokens that were in the cache of the replica, so a reader sees that a
// kind is the kind that it says.
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
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := program(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// program runs the benchmark, or the helper that the environment names.
func program() error {
	if ran, err := helper(context.Background()); ran {
		return err
	}
	// The servers end with the context, so an interrupted run leaves none.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	return run(ctx, o)
}

type options struct {
	entries          []int
	algorithms       []string
	kinds            []string
	rounds, inFlight int
	unseen           int
	turn             time.Duration
	checks           int           // of one token, for the memory; 0: no such part
	steady           time.Duration // of a phase at half the load; 0: no such part
	envoy            bool          // through Envoy, too
	gatewayKinds     []string      // kinds of traffic through Envoy
	known            bool          // through Envoy with the module, too
	denials          int           // tokens that are taken out under load
	profile          string        // folder for profiles; empty: no such part
	markdown         string        // file whose tables are replaced; empty: standard output
	arguments        string        // as they were given
}

// parse reads the command line.
func parse(arguments []string) (o options, err error) {
	o.arguments = strings.Join(arguments, " ")
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	entries := flags.String("entries", "0,1000000", "numbers of revocations, one product each")
	algs := flags.String("algorithms", strings.Join(algorithms, ","), "algorithms of the tokens")
	traffic := flags.String("traffic", strings.Join(kinds, ","), "kinds of traffic; none leaves out the table of servers")
	full := flags.Bool("full", false, "ten million revocations too")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds, in each of which every server gets each kind of traffic")
	flags.DurationVar(&o.turn, "turn", 1500*time.Millisecond, "length of one turn of a server")
	flags.IntVar(&o.inFlight, "in-flight", 64, "Checks under way at a time")
	flags.IntVar(&o.unseen, "unseen", 40_000, "tokens that are never seen; more than a replica remembers")
	flags.IntVar(&o.checks, "checks", 1_000_000, "Checks of one token, after which the memory is read; 0: none")
	flags.DurationVar(&o.steady, "steady", 8*time.Second, "length of a phase at half the load, with revocations and without; 0: none")
	flags.BoolVar(&o.envoy, "envoy", false, "measure through a real Envoy, too")
	flags.BoolVar(&o.known, "known", false, "measure tokens for which Envoy itself answers, too; needs a C compiler")
	flags.IntVar(&o.denials, "denials", 1000, "known tokens that are taken out of the table under load, for -known")
	flags.StringVar(&o.profile, "profile", "", "`folder` for profiles of the product under each kind of traffic")
	flags.StringVar(&o.markdown, "markdown", "", "`file` whose marked tables are replaced; otherwise they are printed")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	for text := range strings.SplitSeq(*entries, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return o, fmt.Errorf("-entries: %q is not a number of revocations", text)
		}
		o.entries = append(o.entries, n)
	}
	if *full {
		o.entries = append(o.entries, 10_000_000)
	}
	o.gatewayKinds = []string{seen, unseen, oneNew}
	slices.Sort(o.entries)
	o.entries = slices.Compact(o.entries)
	if o.algorithms, err = oneOf("-algorithms", *algs, algorithms); err != nil {
		return o, err
	}
	if *traffic != "none" {
		o.kinds, err = oneOf("-traffic", *traffic, kinds)
	}
	if o.rounds < 1 || o.inFlight < connections || o.unseen < 1 || o.denials < 1 {
		return o, fmt.Errorf("-rounds, -unseen and -denials must be 1 at least, and -in-flight %d", connections)
	}
	return o, err
}

// oneOf returns the elements of a list, each of which must be known.
func oneOf(name, list string, known []string) ([]string, error) {
	all := strings.Split(list, ",")
	for _, one := range all {
		if !slices.Contains(known, one) {
			return nil, fmt.Errorf("%s: %q is not one of %s", name, one, strings.Join(known, ", "))
		}
	}
	return all, nil
}

// bench is one run.
type bench struct {
	options
	processes
	dir, binary string
	issuer      *issuer
	tables      tables
}

// run measures, and writes the tables.
func run(ctx context.Context, o options) (err error) {
	b := bench{options: o}
	defer b.stop()
	if b.dir, err = os.MkdirTemp("", "rescind-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.binary = filepath.Join(b.dir, "rescind")
	note("building rescind")
	if err := build(ctx, b.binary, false); err != nil {
		return err
	}
	if b.issuer, err = newIssuer(o.algorithms, filepath.Join(b.dir, "jwks.json")); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{b.servers, b.steadily, b.memory, b.profiles, b.throughGateway, b.inProcess, b.firstDenials} {
		if err = part(ctx); err != nil {
			break
		}
	}
	return errors.Join(err, b.tables.write(o.markdown)) // the tables that are complete are worth keeping
}

// product starts a product with so many revocations.
func (b *bench) product(ctx context.Context, name string, entries int) (*product, error) {
	note("starting rescind with %s revocations", thousands(entries))
	return b.newProduct(ctx, b.dir, b.binary, b.issuer.file, name, entries)
}

// servers measures all servers with each kind of traffic.
func (b *bench) servers(ctx context.Context) error {
	if len(b.kinds) == 0 {
		return nil
	}
	var all []*server
	var running []*process
	for _, kind := range []string{noOp, "golang-jwt"} {
		s, err := b.plain(ctx, b.dir, kind, b.issuer.file)
		if err != nil {
			return err
		}
		all, running = append(all, s), append(running, s.process)
	}
	for _, n := range b.entries {
		d, err := b.product(ctx, "rescind-"+strconv.Itoa(n), n)
		if err != nil {
			return err
		}
		s, err := d.replica(ctx)
		if err != nil {
			return err
		}
		all, running = append(all, s), append(running, s.process, d.control)
	}
	t := turns{}
	for _, alg := range b.algorithms {
		traffic, err := b.issuer.traffic(alg, b.unseen)
		if err != nil {
			return err
		}
		for round := range b.rounds {
			note("%s, round %d of %d", alg, round+1, b.rounds)
			for _, kind := range b.kinds {
				for i := range all {
					s := all[(i+round)%len(all)] // each server is first in turn
					m, err := measure(ctx, s, traffic, kind, b.options)
					if err != nil {
						return fmt.Errorf("%s, %s, %s: %w", s.name, alg, kind, err)
					}
					t.add(alg, kind, s.name, m)
				}
			}
		}
	}
	b.tables.add("checks", t.markdown(b.options, all))
	for _, p := range running {
		if err := b.end(p); err != nil {
			return err
		}
	}
	return nil
}

// steadily measures latencies at half the load, with the most revocations.
func (b *bench) steadily(ctx context.Context) error {
	if b.steady == 0 || len(b.entries) == 0 {
		return nil
	}
	d, err := b.product(ctx, "rescind-steady", b.entries[len(b.entries)-1])
	if err != nil {
		return err
	}
	traffic, err := b.issuer.traffic(b.algorithms[0], 0)
	if err != nil {
		return err
	}
	all, err := d.steady(ctx, traffic, b.options)
	if err != nil {
		return err
	}
	b.tables.add("steady", steadyMarkdown(b.options, d.entries, all))
	return b.end(d.control)
}

// memory measures the memory after many Checks of one token.
func (b *bench) memory(ctx context.Context) error {
	if b.checks == 0 {
		return nil
	}
	d, err := b.product(ctx, "rescind-memory", -1)
	if err != nil {
		return err
	}
	traffic, err := b.issuer.traffic(b.algorithms[0], 0)
	if err != nil {
		return err
	}
	r, err := d.memory(ctx, traffic, b.options)
	if err != nil {
		return err
	}
	b.tables.add("memory", memoryMarkdown(b.options, r))
	return b.end(d.control)
}

var began = time.Now()

// note tells the user on standard error how far the run is.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
}
