package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// turns are the figures of all turns.
type turns map[cell][]measured

type cell struct{ alg, kind, server string }

func (t turns) add(alg, kind, server string, m measured) {
	c := cell{alg, kind, server}
	t[c] = append(t[c], m)
}

// spread are the median and the extremes of the rounds.
type spread struct{ median, least, most float64 }

func spreadOf[M any](all []M, figure func(M) float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	values := make([]float64, len(all))
	for i, m := range all {
		values[i] = figure(m)
	}
	slices.Sort(values)
	return spread{values[len(values)/2], values[0], values[len(values)-1]}
}

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.least, s.most) }

func (s spread) whole() string { return fmt.Sprintf("%.0f (%.0f–%.0f)", s.median, s.least, s.most) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func cpu(m measured) float64  { return m.cpu }
func rate(m measured) float64 { return m.perSecond }
func p50(m measured) float64  { return milliseconds(m.p50) }
func p99(m measured) float64  { return milliseconds(m.p99) }
func mib(m measured) float64  { return m.resident }
func hits(m measured) float64 { return m.hits * 100 }

// ratios returns a figure of each turn, divided by that of another server's turn in the
// same round.
func ratios[M any](turns, base []M, figure func(M) float64) spread {
	divided := make([]float64, len(turns))
	for i := range turns {
		divided[i] = figure(turns[i]) / figure(base[i])
	}
	return spreadOf(divided, itself)
}

func itself(f float64) float64 { return f }

// taken returns the sentence that stands above a table.
func taken(o options, rest string, args ...any) string {
	return fmt.Sprintf("Taken on %s with `go run ./test/bench%s` on %d processors (%s), which the servers and the generator share. ",
		time.Now().Format(time.DateOnly), strings.TrimRight(" "+o.arguments, " "), runtime.NumCPU(), processor()) + fmt.Sprintf(rest, args...) + "\n\n"
}

// markdown returns the table of the servers. The ratio is that of the processor time to
// the first server's in the same round.
func (t turns) markdown(o options, servers []*server) string {
	var b strings.Builder
	b.WriteString(taken(o, "%d rounds of %v, %d Checks under way. Median (least–most).", o.rounds, o.turn, o.inFlight))
	fmt.Fprintln(&b, "| tokens | traffic | server | CPU s per 100,000 Checks | ratio to no-op | Checks/s | p50 ms | p99 ms | resident MiB | in the cache |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|---|")
	for _, alg := range o.algorithms {
		for _, kind := range o.kinds {
			base := t[cell{alg, kind, servers[0].name}]
			for _, s := range servers {
				turns, cached := t[cell{alg, kind, s.name}], ""
				if s.metrics != "" {
					cached = fmt.Sprintf("%.1f %%", spreadOf(turns, hits).median)
				}
				fmt.Fprintf(&b, "| %s | %s | %s | %v | %v | %s | %v | %v | %.0f | %s |\n", alg, kind, s.name,
					spreadOf(turns, cpu), ratios(turns, base, cpu), spreadOf(turns, rate).whole(),
					spreadOf(turns, p50), spreadOf(turns, p99), spreadOf(turns, mib).median, cached)
			}
		}
	}
	return b.String()
}

// steadyMarkdown returns the table of latencies at half the load.
func steadyMarkdown(o options, entries int, all []steadily) string {
	var b strings.Builder
	b.WriteString(taken(o, "A replica with %s revocations, seen tokens with %s, at a constant rate of half the maximum. A latency begins at the time at which the request had to be sent. Phases of %v take turns. In one of them %d revocations arrive in each second, one in each request to the admin API, and the replica makes a new filter. The control endpoint and its caller have a lower priority (`nice 10`), because in a deployment they do not share the processors of the replica.",
		thousands(entries), o.algorithms[0], o.steady, revocationRate))
	fmt.Fprintln(&b, "| round | Checks/s | p50 ms, quiet | p50 ms, revoking | p99 ms, quiet | p99 ms, revoking | p99 ratio | revoked in that phase | new filters |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|")
	divided := make([]float64, len(all))
	for n, r := range all {
		divided[n] = r.revoking.p99.Seconds() / r.quiet.p99.Seconds()
		fmt.Fprintf(&b, "| %d | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f | %d | %d |\n", n+1, r.perSecond,
			p50(r.quiet), p50(r.revoking), p99(r.quiet), p99(r.revoking), divided[n], r.revoked, r.rebuilds)
	}
	fmt.Fprintf(&b, "\nThe p99 with revocations is %v times the quiet one, median (least–most).\n", spreadOf(divided, itself))
	return b.String()
}

// memoryMarkdown returns the row about one token.
func memoryMarkdown(o options, r remembered) string {
	return taken(o, "One token, %s, the default cache, no revocations, %d Checks under way.", o.algorithms[0], o.inFlight) +
		"| Checks of one token | resident before | resident after | highest meanwhile | in the cache | Checks/s |\n|---|---|---|---|---|---|\n" +
		fmt.Sprintf("| %d | %.0f MiB | %.0f MiB | %.0f MiB | %.2f %% | %.0f |\n", r.checks, r.before, r.after, r.highest, r.hits*100, r.checksInSecond)
}

// processor returns the name of the processor, as far as the system tells.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer func() { _ = f.Close() }()
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		if name, ok := strings.CutPrefix(scanner.Text(), "model name"); ok {
			return cmp.Or(strings.Trim(name, "\t :"), runtime.GOARCH)
		}
	}
	return runtime.GOARCH
}
