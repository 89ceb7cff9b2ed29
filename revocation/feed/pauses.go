package feed

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// longestPause bounds the pause between two attempts to reach a control
// endpoint. It is short, so that replicas follow a control endpoint within a
// second of its return.
const longestPause = 500 * time.Millisecond

// newPauses returns the pauses between attempts: each is chosen evenly between
// zero and a limit (full jitter), and the limit grows from a tenth of
// longestPause to longestPause. Reset forgets the failures so far.
func newPauses() *backoff.ExponentialBackOff {
	p := &backoff.ExponentialBackOff{
		InitialInterval: longestPause / 20, MaxInterval: longestPause / 2,
		Multiplier: 2, RandomizationFactor: 1, // a pause is up to twice its interval
	}
	p.Reset()
	return p
}
