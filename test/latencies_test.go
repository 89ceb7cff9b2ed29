package test

import (
	"fmt"
	"slices"
	"time"
)

type latencies []time.Duration

// at returns a percentile.
func (l latencies) at(percent int) time.Duration {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[min(len(l)*percent/100, len(l)-1)]
}

func (l latencies) String() string {
	r := func(percent int) time.Duration { return l.at(percent).Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v p99 %v longest %v of %d", r(50), r(99), r(100), len(l))
}
