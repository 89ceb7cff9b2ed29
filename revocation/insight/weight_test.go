package insight

import (
	"encoding/json"
	"math"
	"testing"
)

func TestMergeWeights(t *testing.T) {
	one := Weights{Since: at, Total: 100, Items: []Weight{
		{Tokens: 2, Requests: 10, Sketch: counted(t, ImpactPrecision, 0, 2)},
		{Tokens: 1, Requests: 90},
		{},
	}}
	two := Weights{Since: at.Add(1), Total: 50, Partial: true, Items: []Weight{
		{Tokens: 2, Requests: 5, Sketch: counted(t, ImpactPrecision, 1, 3)},
		{Partial: true},
		{},
	}}
	got := MergeWeights(3, one, two)
	if !got.Since.Equal(two.Since) || got.Total != 150 || !got.Partial {
		t.Errorf("two replicas with 100 and 50 requests: got %+v, want the shorter memory, 150 requests, partial", got)
	}
	for i, want := range []Weight{{Tokens: 3, Requests: 15}, {Tokens: 1, Requests: 90, Partial: true}, {}} {
		if w := got.Items[i]; w.Tokens != want.Tokens || w.Requests != want.Requests || w.Partial != want.Partial {
			t.Errorf("item %d: got %+v, want %+v", i, w, want)
		}
	}
	if sum := got.Sum(); sum.Tokens != 4 || sum.Requests != 105 || !sum.Partial {
		t.Errorf("in all: got %+v, want 4 tokens and 105 requests, partial", sum)
	}
	if none := MergeWeights(2); len(none.Items) != 2 || none.Total != 0 || none.Partial {
		t.Errorf("of no replica: got %+v, want two empty items", none)
	}
}

// A batch weighs the sum of its lines, and never more than all traffic.
func TestSumIsAtMostAllTraffic(t *testing.T) {
	w := Weights{Total: 100, Items: []Weight{{Requests: 60}, {Requests: 60}}}
	if got := w.Sum().Requests; got != 100 {
		t.Errorf("60 and 60 of 100 requests: got %d, want 100", got)
	}
}

// A replica that makes up figures makes a weight too large, never small.
func TestMadeUpWeights(t *testing.T) {
	lie := Weights{Total: math.MaxUint64, Items: []Weight{{Tokens: math.MaxUint64, Requests: math.MaxUint64, Sketch: []byte("no sketch")}}}
	got := MergeWeights(1, lie, lie, Weights{Total: 10, Items: []Weight{{Tokens: 5, Requests: 1 << 60}}})
	if got.Total != math.MaxUint64 || got.Items[0].Requests != math.MaxUint64 {
		t.Errorf("two replicas with the largest numbers and one with 10 requests: got %+v, want the largest numbers", got)
	}
	if honest := MergeWeights(1, Weights{Total: 10, Items: []Weight{{Requests: 11}}}); honest.Items[0].Requests != 10 {
		t.Errorf("11 of 10 requests: got %d, want 10", honest.Items[0].Requests)
	}
	if short := (&Weights{Items: make([]Weight, 2)}); short.Fits(3) || !short.Fits(2) {
		t.Errorf("an answer with 2 items: got fits 3: %v, fits 2: %v, want it to fit 2 alone", short.Fits(3), short.Fits(2))
	}
}

func FuzzMergeWeights(f *testing.F) {
	seed, err := json.Marshal(Weights{Since: at, Total: 9, Items: []Weight{{Tokens: 3, Requests: 3, Sketch: counted(f, ImpactPrecision, 0, 3)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, text []byte) {
		var w Weights
		if json.Unmarshal(text, &w) != nil || !w.Fits(1) {
			return
		}
		own := Weights{Total: 9, Items: []Weight{{Tokens: 1, Requests: 3, Sketch: counted(t, ImpactPrecision, 7, 8)}}}
		all := MergeWeights(1, own, w)
		if sum := all.Sum(); sum.Requests < 3 || sum.Requests > all.Total {
			t.Errorf("%s: got %d of %d requests, want at least the 3 of an honest replica", text, sum.Requests, all.Total)
		}
	})
}
