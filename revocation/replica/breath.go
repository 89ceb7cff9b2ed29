package replica

import "time"

// Breath makes long work leave the processors to look-ups. After each burst of work
// it rests for as long as the burst took. A nil Breath never rests.
type Breath struct {
	began time.Time     // of this burst
	left  time.Duration // for which the work may still rest
}

// burst is for how long work goes on without a rest: about the time of five Checks.
const burst = 500 * time.Microsecond

// NewBreath returns a Breath for work that begins now and may rest for most in all.
func NewBreath(most time.Duration) *Breath { return &Breath{time.Now(), most} }

// Take rests if a burst of work is over.
func (b *Breath) Take() {
	if b == nil {
		return
	}
	worked := time.Since(b.began)
	if worked < burst {
		return
	}
	rest := min(worked, b.left)
	b.left -= rest
	time.Sleep(rest)
	b.began = time.Now()
}
