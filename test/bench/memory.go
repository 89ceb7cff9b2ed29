package main

import (
	"context"
	"fmt"
	"time"
)

// remembered are the figures of a replica that has answered many Checks of one token.
type remembered struct {
	checks         int
	before, after  float64 // MiB resident
	highest        float64 // MiB resident, while it answered
	hits           float64 // share of the Checks whose token was in the cache
	checksInSecond float64
}

// memory sends so many Checks with one token to a replica that has no revocations and
// the default cache.
func (d *product) memory(ctx context.Context, t *traffic, o options) (r remembered, err error) {
	s, err := d.replica(ctx)
	if err != nil {
		return r, err
	}
	one := &traffic{few: t.few[:1]}
	r.before = s.resident()
	all, err := dialAll(ctx, s, one, seen)
	defer closeAll(all)
	if err != nil {
		return r, err
	}
	began, err := s.begin()
	if err != nil {
		return r, err
	}
	note("%d Checks of one token", o.checks)
	var total result
	for len(total.took) < o.checks {
		end := time.Now().Add(o.turn)
		part, err := together(all, func(c *conn) (result, error) { return c.run(end, o.inFlight/connections) })
		if err != nil {
			return r, err
		}
		total.allowed += part.allowed
		total.took = append(total.took, part.took...)
		r.highest = max(r.highest, s.resident())
	}
	if err := s.checkAnswers(seen, total); err != nil {
		return r, fmt.Errorf("one token: %w", err)
	}
	m, err := began.end(total.took)
	if err != nil {
		return r, err
	}
	closeAll(all) // the replica waits for its peers before it ends
	r.checks, r.after, r.hits, r.checksInSecond = len(total.took), m.resident, m.hits, m.perSecond
	return r, d.end(s.process)
}
