package insight

import (
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
	"github.com/axiomhq/hyperloglog"
)

// Parameters of the sketches that replicas send. Sketches with other parameters
// do not merge.
const (
	SketchAccuracy   = 0.05 // of a duration, relative
	SketchBins       = 256  // years and microseconds fit in
	ImpactPrecision  = 14   // an error of 0.8 %
	HoldersPrecision = 10   // of 3 %
)

// maxSketch is above the size of any sketch that a replica makes.
const maxSketch = 1 << 17

// readCounter reads a HyperLogLog sketch that a replica sent. It is not ok if the
// bytes are no such sketch; hostile bytes do no harm.
func readCounter(raw []byte, precision byte) (s *hyperloglog.Sketch, ok bool) {
	defer harmless(&ok)
	s = new(hyperloglog.Sketch)
	// The second byte is the precision, from which all sizes follow.
	return s, len(raw) > 1 && len(raw) <= maxSketch && raw[1] == precision && s.UnmarshalBinary(raw) == nil
}

// countOf returns how many distinct hashes are in a sketch.
func countOf(raw []byte, precision byte) (uint64, bool) {
	if len(raw) == 0 {
		return 0, true
	}
	s, ok := readCounter(raw, precision)
	if !ok {
		return 0, false
	}
	return s.Estimate(), true
}

// distribution is a DDSketch of durations in seconds.
type distribution struct{ sketch *ddsketch.DDSketch }

func newDistribution() distribution {
	m, err := mapping.NewLogarithmicMapping(SketchAccuracy)
	if err != nil {
		panic(err) // the accuracy is a constant
	}
	return distribution{ddsketch.NewDDSketchFromStoreProvider(m, bins)}
}

// bins returns a store with a bounded number of bins. A replica cannot make it
// larger.
func bins() store.Store { return store.NewCollapsingLowestDenseStore(SketchBins) }

// add merges a sketch that a replica sent. It is not ok if the bytes are no such
// sketch.
func (d *distribution) add(raw []byte) (ok bool) {
	if len(raw) == 0 {
		return true
	}
	if len(raw) > maxSketch {
		return false
	}
	defer harmless(&ok)
	s, err := ddsketch.DecodeDDSketch(raw, bins, d.sketch.IndexMapping)
	return err == nil && s.GetNegativeValueStore().IsEmpty() && d.sketch.MergeWith(s) == nil
}

func (d *distribution) quantiles() Quantiles {
	values, err := d.sketch.GetValuesAtQuantiles([]float64{.5, .9, .99})
	if err != nil { // it is empty
		return Quantiles{}
	}
	return Quantiles{seconds(values[0]), seconds(values[1]), seconds(values[2])}
}

// seconds returns a duration, rounded because a sketch is not more accurate.
func seconds(s float64) Duration {
	const most = 100 * 365 * 24 * time.Hour
	if !(s > 0) {
		return 0
	}
	d := time.Duration(min(s, most.Seconds()) * float64(time.Second))
	if d > time.Minute {
		return Duration(d.Round(time.Second))
	}
	return Duration(d.Round(time.Millisecond))
}

// harmless turns a panic of a library, caused by hostile bytes, into ok = false.
func harmless(ok *bool) {
	if recover() != nil {
		*ok = false
	}
}
