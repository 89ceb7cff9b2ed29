package insight

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// sketched returns an encoded distribution with so many of each value.
func sketched(t testing.TB, of map[time.Duration]int) (b []byte) {
	t.Helper()
	d := newDistribution()
	for v, n := range of {
		if err := d.sketch.AddWithCount(v.Seconds(), float64(n)); err != nil {
			t.Fatal(err)
		}
	}
	d.sketch.Encode(&b, false)
	return b
}

// data returns the statistics of a replica after two hours: 50 holders with tokens of this
// lifetime, each with a request at this interval.
func data(t testing.TB, gap, life time.Duration) AdviceData {
	t.Helper()
	const hours, holders = 2, 50
	n := len(Lifetimes)
	requests := uint64(hours * time.Hour / gap * holders)
	g := AdviceGroup{
		Issuer: "https://idp.example/", Client: "web", Policy: "default", Tokens: holders * uint64(max(1, hours*time.Hour/life)), Requests: requests,
		Holders:   counted(t, HoldersPrecision, 0, holders),
		Lifetimes: sketched(t, map[time.Duration]int{life: holders}), Ages: sketched(t, map[time.Duration]int{life / 2: int(requests)}),
		Gaps: sketched(t, map[time.Duration]int{gap: int(requests)}), Rests: sketched(t, map[time.Duration]int{life / 2: int(requests)}),
		LivesLonger: make([]uint64, n), IsOlder: make([]uint64, n), Pauses: make([]uint64, n), Busy: make([]float64, n),
	}
	for i, limit := range Lifetimes {
		if life > limit {
			g.LivesLonger[i] = requests
			g.IsOlder[i] = uint64(float64(requests) * (1 - limit.Seconds()/life.Seconds()))
		}
		if gap > limit {
			g.Pauses[i] = requests
		} else {
			g.Busy[i] = float64(requests) * gap.Seconds()
		}
	}
	return AdviceData{Since: at, Until: at.Add(hours * time.Hour), Groups: []AdviceGroup{g}}
}

func one(t *testing.T, a Advice) Recommendation {
	t.Helper()
	if len(a.Items) != 1 || len(a.Items[0].Candidates) != len(Lifetimes) {
		t.Fatalf("got the advice %+v, want one item with %d candidates", a, len(Lifetimes))
	}
	return a.Items[0]
}

func TestAdvise(t *testing.T) {
	for _, c := range []struct {
		name      string
		gap, life time.Duration
		want      time.Duration
		reason    string
	}{
		{
			"busy, and tokens for a day", time.Second, 24 * time.Hour, 5 * time.Minute,
			"Tokens live for 24h and could live for 5m. That costs 600 refreshes an hour, which is 0.3 % of the requests. A theft that nobody notices then ends after 5m at most, not after 24h.",
		},
		{
			"a request a minute", time.Minute, 24 * time.Hour, time.Hour,
			"Tokens live for 24h and could live for 1h. That costs 50 refreshes an hour, which is 1.7 % of the requests. A theft that nobody notices then ends after 1h at most, not after 24h.",
		},
		{
			"seldom", 20 * time.Minute, time.Hour, time.Hour,
			"Tokens live for 1h. With a shorter life the refreshes would be more than 2.0 % of the requests.",
		},
		{"short already", time.Second, 5 * time.Minute, 5 * time.Minute, "Tokens live for 5m. A shorter life would gain little."},
		{"too few requests", time.Hour, 24 * time.Hour, 0, "Only 100 requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := data(t, c.gap, c.life)
			if c.want == 0 {
				d.Groups[0].Requests = 10
				c.reason = "Only 10 requests within 2h0m0s were seen, which is too little for a recommendation."
			}
			got := one(t, Advise(d))
			if time.Duration(got.Recommended) != c.want || got.Reason != c.reason {
				t.Errorf("a request every %v, tokens for %v: got %v: %q, want %v: %q", c.gap, c.life, got.Recommended, got.Reason, c.want, c.reason)
			}
			if got.Holders != 50 {
				t.Errorf("a request every %v, tokens for %v: got %d holders, want 50", c.gap, c.life, got.Holders)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	d := data(t, time.Minute, time.Hour)
	d.CutOff = Duration(10 * time.Minute)
	got := one(t, Advise(d))
	for i, want := range []Candidate{
		{ExposureMean: 30, ExposureMost: 60, ExposureCutOff: 60, RefreshesPerHour: 3000, DeniedByMaxLifetime: 1, DeniedByMaxAge: 59. / 60},
		{ExposureMean: 150, ExposureMost: 300, ExposureCutOff: 300, RefreshesPerHour: 600, DeniedByMaxLifetime: 1, DeniedByMaxAge: 55. / 60},
		{ExposureMean: 450, ExposureMost: 900, ExposureCutOff: 600, RefreshesPerHour: 200, DeniedByMaxLifetime: 1, DeniedByMaxAge: 45. / 60},
		{ExposureMean: 1800, ExposureMost: 3600, ExposureCutOff: 600, RefreshesPerHour: 50},
	} {
		c := got.Candidates[i]
		for _, p := range [][2]float64{
			{time.Duration(c.ExposureMean).Seconds(), float64(want.ExposureMean)}, {time.Duration(c.ExposureMost).Seconds(), float64(want.ExposureMost)},
			{time.Duration(c.ExposureCutOff).Seconds(), float64(want.ExposureCutOff)}, {c.RefreshesPerHour, want.RefreshesPerHour},
			{c.DeniedByMaxLifetime, want.DeniedByMaxLifetime}, {c.DeniedByMaxAge, want.DeniedByMaxAge},
		} {
			if math.Abs(p[0]-p[1]) > 1e-3*p[1]+1e-9 {
				t.Errorf("candidate %v: got %+v, want %+v", c.Lifetime, c, want)
				break
			}
		}
	}
	// One replica that goes on for ever is enough to be exposed for ever.
	endless := data(t, time.Minute, time.Hour)
	if c := one(t, Advise(d, endless)).Candidates[3]; time.Duration(c.ExposureCutOff) != time.Hour {
		t.Errorf("a replica without cut-off beside one with 10m, candidate %v: got an exposure of %v, want 1h", c.Lifetime, c.ExposureCutOff)
	}
}

// TestAdviseOfSeveralReplicas counts holders that use two replicas by turns once.
func TestAdviseOfSeveralReplicas(t *testing.T) {
	alone := one(t, Advise(data(t, time.Second, time.Hour)))
	half := data(t, 2*time.Second, time.Hour)
	both := one(t, Advise(half, half))
	if both.Requests != alone.Requests || both.Holders != alone.Holders || both.RequestsPerHour != alone.RequestsPerHour {
		t.Errorf("the same holders at two replicas: got %d requests, %d holders, %v requests an hour, want %d, %d, %v",
			both.Requests, both.Holders, both.RequestsPerHour, alone.Requests, alone.Holders, alone.RequestsPerHour)
	}
	for i := range Lifetimes {
		if a, b := alone.Candidates[i].RefreshesPerHour, both.Candidates[i].RefreshesPerHour; math.Abs(a-b) > .1*a {
			t.Errorf("the same holders at two replicas, lifetime %v: got %v refreshes an hour, want about %v", Lifetimes[i], b, a)
		}
	}
	// Others are.
	other := data(t, time.Second, time.Hour)
	other.Groups[0].Holders = counted(t, HoldersPrecision, 1000, 1050)
	if got := one(t, Advise(data(t, time.Second, time.Hour), other)); got.Holders < 97 || got.Holders > 103 || math.Abs(got.Candidates[0].RefreshesPerHour/alone.Candidates[0].RefreshesPerHour-2) > .1 {
		t.Errorf("other holders at the second replica: got %d holders and %v refreshes an hour, want about 100 and %v",
			got.Holders, got.Candidates[0].RefreshesPerHour, 2*alone.Candidates[0].RefreshesPerHour)
	}
}

func TestAdviceSurvivesNonsense(t *testing.T) {
	bad := data(t, time.Second, time.Hour)
	g := &bad.Groups[0]
	g.Lifetimes, g.Holders, g.Busy, g.Client = []byte("nonsense"), []byte{1, 2}, nil, "\x1b[31m"
	backwards := data(t, time.Second, time.Hour)
	backwards.Since, backwards.Until = backwards.Until, backwards.Since
	for _, d := range []AdviceData{bad, backwards, {}} {
		a := Advise(d)
		if b, err := json.Marshal(a); err != nil || strings.Contains(string(b), "\x1b") {
			t.Errorf("advice from %+v: got %q and error %v, want JSON without an escape character", d, b, err)
		}
	}
	if !Advise(bad).Partial {
		t.Error("advice from sketches that cannot be read: got a complete answer, want a partial one")
	}
}

func TestSpoken(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0: "0s", 5 * time.Second: "5s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m",
		24*time.Hour + 3*time.Second: "24h", 10 * time.Minute: "10m", 20 * time.Second: "20s", 100 * time.Hour: "100h",
	} {
		if got := Duration(in).Short(); got != want {
			t.Errorf("%v in short: got %s, want %s", in, got, want)
		}
	}
	var d Duration
	if err := d.UnmarshalText([]byte("1h30m0s")); err != nil || d.String() != "1h30m0s" {
		t.Errorf("reading 1h30m0s: got %v and error %v, want the same duration", d, err)
	}
	if err := d.UnmarshalText([]byte("x")); err == nil {
		t.Error("reading the duration x: got no error, want one")
	}
}
