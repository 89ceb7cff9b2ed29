package replica

import "time"

// breath makes long work leave the processors to look-ups. After each burst of work
// it rests for as long as the burst took. A nil breath never rests.
type breath struct {
	began time.Time     // of this burst
	left  time.Duration // for which the work may still rest
}

// burst is for how long work goes on without a rest: about the time of five Checks.
const burst = 500 * time.Microsecond

// newBreath returns a breath for work that begins now and may rest for most in all.
func newBreath(most time.Duration) *breath { return &breath{time.Now(), most} }

// take rests if a burst of work is over.
func (b *breath) take() {
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
