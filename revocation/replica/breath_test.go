package replica

import (
	"testing"
	"testing/synctest"
	"time"
)

// Work rests after each burst for as long as the burst took, until the work has
// rested for long enough in all.
func TestBreath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBreath(4 * time.Millisecond)
		for i, c := range []struct{ worked, want time.Duration }{
			{burst / 2, 0}, {burst / 2, burst}, {0, 0}, {2 * time.Millisecond, 2 * time.Millisecond},
			{2 * time.Millisecond, 4*time.Millisecond - burst - 2*time.Millisecond}, {time.Second, 0},
		} {
			time.Sleep(c.worked)
			began := time.Now()
			b.Take()
			if got := time.Since(began); got != c.want {
				t.Errorf("burst %d, after %v of work: it rested for %v, want %v", i, c.worked, got, c.want)
			}
		}
		began := time.Now()
		(*Breath)(nil).Take()
		if got := time.Since(began); got != 0 {
			t.Errorf("no breath: it rested for %v, want no rest", got)
		}
	})
}
