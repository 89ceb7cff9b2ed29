package watch

import (
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
	"github.com/axiomhq/hyperloglog"

	"rescind/revocation/insight"
)

// newDistribution returns an empty sketch of seconds, as [insight.Advise] reads it.
func newDistribution() *ddsketch.DDSketch {
	m, err := mapping.NewLogarithmicMapping(insight.SketchAccuracy)
	if err != nil {
		panic(err) // the accuracy is a constant
	}
	return ddsketch.NewDDSketchFromStoreProvider(m, func() store.Store {
		return store.NewCollapsingLowestDenseStore(insight.SketchBins)
	})
}

// add adds a duration that was seen so many times. A sketch takes every duration.
func add(s *ddsketch.DDSketch, d time.Duration, times uint32) {
	_ = s.AddWithCount(max(d.Seconds(), 0), float64(times))
}

func encoded(s *ddsketch.DDSketch) (b []byte) {
	s.Encode(&b, false)
	return b
}

// newCounter returns an empty sketch that counts distinct hashes.
func newCounter(precision uint8) *hyperloglog.Sketch {
	s, err := hyperloglog.NewSketch(precision, true)
	if err != nil {
		panic(err) // the precision is a constant
	}
	return s
}

// usual has the lifetimes of an issuer's tokens over the last window or two.
type usual struct {
	current, previous *ddsketch.DDSketch
	turned            time.Time
	p99               time.Duration
	known             bool
}

// enough is the number of tokens from which on a lifetime is usual.
const enough = 100

func (u *usual) add(life time.Duration) {
	if u.current == nil {
		u.current = newDistribution()
	}
	add(u.current, life, 1)
}

// percentile returns the 99th percentile, as of the last second.
func (u *usual) percentile() (time.Duration, bool) { return u.p99, u.known }

func (u *usual) tick(now time.Time, window time.Duration) {
	if u.current == nil {
		return
	}
	if u.turned.IsZero() {
		u.turned = now
	}
	all := u.current
	if u.previous != nil {
		all = u.previous.Copy()
		_ = all.MergeWith(u.current) // of one mapping
	}
	p99, err := all.GetValueAtQuantile(.99)
	u.known = err == nil && all.GetCount() >= enough
	u.p99 = time.Duration(p99 * float64(time.Second))
	if now.Sub(u.turned) >= window {
		u.previous, u.current, u.turned = u.current, newDistribution(), now
	}
}
