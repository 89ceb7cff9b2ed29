package daemon

import "testing"

func TestGarbageIsInProportionToWhatIsMade(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 40}, {8 << 20, 40}, {20 << 20, 220}, {32 << 20, 400}, {headroom / 2, 200}, {headroom, 100}, {4 * headroom, 25}, {1 << 40, 10}} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("%d bytes held: %d %%, want %d %%", c.live, got, c.want)
		}
	}
}

func TestMemoryIsGivenBack(t *testing.T) {
	for _, c := range []struct {
		live, free uint64
		want       bool
	}{{20 << 20, headroom, false}, {20 << 20, 3 * headroom, true}, {16 * headroom, 5 * headroom, false}, {16 * headroom, 7 * headroom, true}} {
		if got := wasteful(c.live, c.free); got != c.want {
			t.Errorf("%d bytes held and %d free: got wasteful %v, want %v", c.live, c.free, got, c.want)
		}
	}
}
