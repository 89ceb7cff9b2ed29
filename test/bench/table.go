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

// table holds the figures of all turns.
type table struct{ turns map[cell][]measured }

type cell struct{ alg, kind, server string }

func (t *table) add(alg, kind, server string, m measured) {
	if t.turns == nil {
		t.turns = map[cell][]measured{}
	}
	c := cell{alg, kind, server}
	t.turns[c] = append(t.turns[c], m)
}

// spread are the median and the extremes of the rounds.
type spread struct{ median, least, most float64 }

func spreadOf(all []measured, figure func(measured) float64) spread {
	values := make([]float64, len(all))
	for i, m := range all {
		values[i] = figure(m)
	}
	slices.Sort(values)
	return spread{values[len(values)/2], values[0], values[len(values)-1]}
}

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.least, s.most) }

// markdown returns the table. The ratio is that of the processor time to the no-op
// server's in the same round, and then the median.
func (t *table) markdown(o options, servers []*server) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Taken on %s with `go run ./test/bench` on %d processors (%s), which the servers and the generator share. %d rounds of %.1f s, %d Checks under way, median (least–most).\n\n",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), processor(), o.rounds, o.seconds, o.inFlight)
	fmt.Fprintln(&b, "| tokens | traffic | server | CPU s per 100,000 Checks | ratio to no-op | Checks/s | p50 ms | p99 ms | resident MiB |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|")
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	for _, alg := range o.algorithms {
		for _, kind := range o.kinds {
			base := t.turns[cell{alg, kind, servers[0].name}]
			for _, s := range servers {
				turns := t.turns[cell{alg, kind, s.name}]
				ratios := slices.Clone(turns)
				for i := range ratios {
					ratios[i].cpu /= base[i].cpu
				}
				cpu := func(m measured) float64 { return m.cpu }
				rate := spreadOf(turns, func(m measured) float64 { return m.perSecond })
				fmt.Fprintf(&b, "| %s | %s | %s | %v | %v | %.0f (%.0f–%.0f) | %.2f | %.2f | %.0f |\n", alg, kind, s.name,
					spreadOf(turns, cpu), spreadOf(ratios, cpu), rate.median, rate.least, rate.most,
					spreadOf(turns, func(m measured) float64 { return milliseconds(m.p50) }).median,
					spreadOf(turns, func(m measured) float64 { return milliseconds(m.p99) }).median,
					spreadOf(turns, func(m measured) float64 { return m.resident }).median)
			}
		}
	}
	return b.String()
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
