package insight

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/axiomhq/hyperloglog"
	"pgregory.net/rapid"

	"rescind/revocation"
)

var at = time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"alice":                 "alice",
		"Zoë 界":                 "Zoë 界",
		"a\nb\x1b[31m":          "a\uFFFDb\uFFFD[31m",
		"\u202egnp.exe":         "\uFFFDgnp.exe",
		"a\u00a0b":              "a\u00a0b",
		"a\u2028b":              "a\uFFFDb",
		"\xff\xfe":              "\uFFFD\uFFFD",
		strings.Repeat("界", 90): strings.Repeat("界", 84) + "…",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q): got %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.StringN(200, 400, 1000)).Draw(t, "s")
		if got := Text(s); !utf8.ValidString(got) || Text(got) != got && len(got) <= MaxText {
			t.Fatalf("Text(%q): got %q, want valid UTF-8 of at most %d bytes that Text leaves as it is", s, got, MaxText)
		}
	})
}

func TestCleanAlerts(t *testing.T) {
	a, ok := Alert{Detector: RevokedTokenUsed, Key: "k", Count: 1, Subject: "a\x00b", Networks: []string{"b", "a\n", "b"}}.Clean()
	if !ok || a.Subject != "a\uFFFDb" || !reflect.DeepEqual(a.Networks, []string{"a\uFFFD", "b"}) {
		t.Errorf("an alert with control characters: got %+v, %v, want the subject a\uFFFDb and the networks a\uFFFD and b", a, ok)
	}
	for _, bad := range []Alert{{Key: "k", Count: 1}, {Detector: "other", Key: "k", Count: 1}, {Detector: SubjectRate, Count: 1}, {Detector: SubjectRate, Key: "k"}} {
		if _, ok := bad.Clean(); ok {
			t.Errorf("%+v: got a clean alert, want a refusal", bad)
		}
	}
}

func TestMergeAlerts(t *testing.T) {
	a := Alert{ID: "1", Key: "k", Detector: ManyNetworks, Summary: "old", First: at, Last: at.Add(time.Minute), Count: 2, Networks: []string{"x"}, Replicas: []string{"a"}, Subject: "alice"}
	b := Alert{Key: "k", Detector: ManyNetworks, Summary: "new", First: at.Add(-time.Minute), Last: at.Add(time.Hour), Count: 3, Networks: []string{"y", "x"}, Replicas: []string{"b"}}
	want := a
	want.Summary, want.First, want.Last, want.Count = "new", b.First, b.Last, 5
	want.Networks, want.Replicas = []string{"x", "y"}, []string{"a", "b"}
	if got := MergeAlerts(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("merging %+v and %+v:\ngot  %+v\nwant %+v", a, b, got, want)
	}
}

func TestMergeActivities(t *testing.T) {
	got := MergeActivities(
		Activity{Since: at, First: at.Add(time.Minute), Last: at.Add(2 * time.Minute), Count: 2, Networks: map[string]uint64{"x": 2}, Policies: map[string]uint64{"p": 2}, Outcomes: map[string]uint64{"ok": 2}},
		Activity{Since: at.Add(-time.Hour), Networks: map[string]uint64{}},
		Activity{Since: at.Add(-time.Hour), First: at, Last: at.Add(time.Minute), Count: 3, Networks: map[string]uint64{"x": 1, "y\n": 2}, Outcomes: map[string]uint64{"revoked": 3}, Partial: true},
	)
	want := Activity{
		Since: at, First: at, Last: at.Add(2 * time.Minute), Count: 5, Partial: true,
		Networks: map[string]uint64{"x": 3, "y\uFFFD": 2}, Policies: map[string]uint64{"p": 2}, Outcomes: map[string]uint64{"ok": 2, "revoked": 3},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("merging the activities of three replicas:\ngot  %+v\nwant %+v", got, want)
	}
	many := map[string]uint64{}
	for i := range 2 * maxNames {
		many[strings.Repeat("x", i%200)+string(rune('0'+i))] = 1
	}
	if got := MergeActivities(Activity{Networks: many}); len(got.Networks) > maxNames || !got.Partial {
		t.Errorf("%d names: got %d, partial: %v, want at most %d, partial", len(many), len(got.Networks), got.Partial, maxNames)
	}
	if b, err := json.Marshal(MergeActivities()); err != nil || strings.Contains(string(b), "null") {
		t.Errorf("merging no activity: got %s and error %v, want JSON without null", b, err)
	}
}

// counted returns an encoded sketch of the hashes of these numbers.
func counted(t testing.TB, precision uint8, from, to uint64) []byte {
	t.Helper()
	s, err := hyperloglog.NewSketch(precision, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		h := (i + 1) * 0x9e3779b97f4a7c15
		h ^= h >> 29
		h *= 0xbf58476d1ce4e5b9
		s.InsertHash(h ^ h>>32)
	}
	b, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMergeImpacts(t *testing.T) {
	one := Impact{Since: at, Tokens: 100, Subjects: 10, Requests: 300, Total: 1000, TokensSketch: counted(t, ImpactPrecision, 0, 100), SubjectsSketch: counted(t, ImpactPrecision, 0, 10)}
	two := Impact{Since: at.Add(time.Minute), Tokens: 100, Subjects: 10, Requests: 200, Total: 500, TokensSketch: counted(t, ImpactPrecision, 50, 150), SubjectsSketch: counted(t, ImpactPrecision, 0, 10)}
	want := Impact{Since: at.Add(time.Minute), Tokens: 150, Subjects: 10, Requests: 500, Total: 1500}
	if got := MergeImpacts(one, two, Impact{}); !reflect.DeepEqual(got, want) {
		t.Errorf("merging two impacts that share 50 tokens:\ngot  %+v\nwant %+v", got, want)
	}
	big := MergeImpacts(
		Impact{Tokens: 200_000, TokensSketch: counted(t, ImpactPrecision, 0, 200_000)},
		Impact{Tokens: 200_000, TokensSketch: counted(t, ImpactPrecision, 100_000, 300_000)},
	)
	if big.Tokens < 290_000 || big.Tokens > 310_000 {
		t.Errorf("two sketches of 200000 tokens, half of them the same: got %d tokens, want about 300000", big.Tokens)
	}
	// A sketch that cannot be read makes the answer partial, and its count is added.
	for _, bad := range [][]byte{nil, {1}, []byte("nonsense that is long enough"), counted(t, 10, 0, 100)} {
		got := MergeImpacts(one, Impact{Tokens: 7, TokensSketch: bad})
		if got.Tokens != 107 || !got.Partial {
			t.Errorf("7 tokens with the sketch %.20x: got %d tokens, partial: %v, want 107, partial", bad, got.Tokens, got.Partial)
		}
	}
}

func TestImpactQueryOf(t *testing.T) {
	req, faults := revocation.ParseRequest([]byte(`{"issuer": "https://idp.example/", "claims": {"sub": "alice", "n": 1.50, "b": true}}`))
	if faults != nil {
		t.Fatal(faults)
	}
	rev, faults := req.Accept(at, time.Hour, "x")
	if faults != nil {
		t.Fatal(faults)
	}
	b, err := json.Marshal(ImpactQueryOf(&rev))
	want := `{"issuer":"https://idp.example/","claims":{"b":true,"n":1.5,"sub":"alice"},"issued_before":"2026-11-24T07:00:01Z"}`
	if err != nil || string(b) != want {
		t.Errorf("a revocation of three claims: got %s and error %v, want %s", b, err, want)
	}
	rev.Block = true
	if q := ImpactQueryOf(&rev); !q.Before.IsZero() {
		t.Errorf("a revocation with block: got issued_before %v, want none", q.Before)
	}
}

// FuzzMerge merges hostile answers of a replica, which neither fails nor takes long.
func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"tokens": 5, "tokens_sketch": "AQ=="}`))
	for _, v := range []any{
		Impact{Tokens: 5, TokensSketch: counted(f, ImpactPrecision, 0, 5)},
		Impact{Tokens: 5, TokensSketch: counted(f, ImpactPrecision, 0, 50_000)[:300]},
		data(f, 10*time.Minute, time.Hour), Activity{Networks: map[string]uint64{"\x00": 1}},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var i Impact
		if json.Unmarshal(b, &i) == nil {
			MergeImpacts(i, i, Impact{Tokens: 3, TokensSketch: counted(t, ImpactPrecision, 0, 3)})
		}
		var a Activity
		if json.Unmarshal(b, &a) == nil {
			MergeActivities(a, a)
		}
		var d AdviceData
		if json.Unmarshal(b, &d) == nil {
			out := Advise(d, d, data(t, time.Minute, time.Hour))
			if _, err := json.Marshal(out); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzSketches merges hostile sketches, which the libraries decode.
func FuzzSketches(f *testing.F) {
	f.Add([]byte{})
	f.Add(counted(f, ImpactPrecision, 0, 5))
	f.Add(counted(f, HoldersPrecision, 0, 5000))
	f.Add(sketched(f, map[time.Duration]int{time.Second: 3, time.Hour: 4}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, precision := range []byte{ImpactPrecision, HoldersPrecision} {
			u := union{precision: precision}
			u.add(counted(t, precision, 0, 3), 3)
			u.add(raw, 1)
			u.count()
		}
		d := newDistribution()
		d.add(raw)
		d.add(sketched(t, map[time.Duration]int{time.Second: 3}))
		if q := d.quantiles(); q.P50 < 0 || q.P99 < 0 {
			t.Fatalf("the sketch %.20x: got the quantiles %+v, want none below 0", raw, q)
		}
	})
}
