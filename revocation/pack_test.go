package revocation

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var genShape = rapid.Custom(func(t *rapid.T) Shape {
	kind := Kind(rapid.IntRange(int(KindClaims), int(KindAll)).Draw(t, "kind"))
	var names []string
	if kind == KindClaims {
		names = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"groups", "jti", "scope", "sub"}), 1, 4, rapid.ID).Draw(t, "names")
		slices.Sort(names)
	}
	s, err := ShapeOf(rapid.SampledFrom([]string{"https://idp.example/", "urn:idp"}).Draw(t, "issuer"), kind, names)
	if err != nil {
		t.Fatalf("ShapeOf(kind %d, names %q): got %v, want nil", kind, names, err)
	}
	return s
})

var genEntry = rapid.Custom(func(t *rapid.T) Entry {
	e := Entry{
		Shape:     genShape.Draw(t, "shape"),
		Before:    Micros(rapid.Int64Range(0, 1<<62).Draw(t, "before")),
		ExpiresAt: Micros(rapid.Int64Range(0, 1<<62).Draw(t, "expires")),
		ID:        ID{rapid.Uint64().Draw(t, "revision"), rapid.Uint32().Draw(t, "index")},
	}
	copy(e.Digest[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "digest"))
	return e
})

func TestPackedEntriesAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(genEntry, 0, 40).Draw(t, "entries")
		got, err := ReadEntries(AppendEntries(nil, want))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("ReadEntries = %v, %v; want %v", got, err, want)
		}
	})
}

// FuzzEntries shows that no bytes make ReadEntries panic, and that entries
// which it accepts survive another round.
func FuzzEntries(f *testing.F) {
	shape, err := ShapeOf("https://idp.example/", KindClaims, []string{"sub"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(AppendEntries(nil, []Entry{{Shape: shape, ExpiresAt: 7, ID: ID{1, 0}}, {Shape: shape, Before: 5, ExpiresAt: 8, ID: ID{2, 3}}}))
	f.Add([]byte{1, 'i', 1, 1, 1, 'n', 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := ReadEntries(b)
		if err != nil {
			return
		}
		again, err := ReadEntries(AppendEntries(nil, entries))
		if err != nil || !slices.Equal(again, entries) {
			t.Fatalf("ReadEntries(%x) = %v, and read again %v, %v; want the same", b, entries, again, err)
		}
	})
}
