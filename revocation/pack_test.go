package revocation

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// wireNames are names of claims as they travel: short ones, the longest one, and
// nested ones.
var wireNames = []string{
	"/odd", "a", "b", "c", "d", "e", "f", "g", "groups", "h", "jti", "scope", "sub", "~",
	strings.Repeat("n", MaxName), nestedMark + "/a/b", nestedMark + "/a/" + strings.Repeat("n", MaxName-4),
}

var genShape = rapid.Custom(func(t *rapid.T) Shape {
	kind := Kind(rapid.IntRange(int(KindClaims), int(KindAll)).Draw(t, "kind"))
	var names []string
	if kind == KindClaims {
		names = rapid.SliceOfNDistinct(rapid.SampledFrom(wireNames), 1, MaxClaims, rapid.ID).Draw(t, "names")
		slices.Sort(names)
	}
	s, err := ShapeOf(rapid.SampledFrom([]string{"https://idp.example/", "urn:idp", strings.Repeat("i", MaxIssuer)}).Draw(t, "issuer"), kind, names)
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

// TestPackedEntriesCutOrChanged cuts packed entries at each place. A part of a
// group is never read as fewer entries.
func TestPackedEntriesCutOrChanged(t *testing.T) {
	a, b := claimShape(t, "sub"), Shape{Issuer: "i", Kind: KindAll}
	want := []Entry{{Shape: a, ID: ID{1, 0}}, {Shape: a, Before: 300, ID: ID{1 << 40, 1}}, {Shape: b, ExpiresAt: 1 << 62, ID: ID{1<<64 - 1, 1<<32 - 1}}}
	packed, border := AppendEntries(nil, want), len(AppendEntries(nil, want[:2]))
	for n := range len(packed) + 1 {
		got, err := ReadEntries(packed[:n])
		switch n {
		case 0, border, len(packed):
			if entries := map[int]int{0: 0, border: 2, len(packed): 3}[n]; err != nil || !slices.Equal(got, want[:entries]) {
				t.Errorf("the first %d bytes: got %v, %v, want the first %d entries", n, got, err, entries)
			}
		default:
			if err == nil {
				t.Errorf("the first %d of %d bytes: got %v, want an error", n, len(packed), got)
			}
		}
	}
	group := func(names []string, issuer string, count uint64, entry ...uint64) []byte {
		b := appendPackedShape(nil, Shape{issuer, KindClaims, strings.Join(names, "\x00")})
		b = append(binary.AppendUvarint(b, count), make([]byte, len(Digest{}))...)
		for _, n := range entry {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	names := func(n int) (out []string) {
		for i := range n {
			out = append(out, string(rune('a'+i)))
		}
		return out
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name   string
		packed []byte
		ok     bool
	}{
		{"a name, an entry", group(names(1), "i", 1, 0, 0, 1, 0), true},
		{"no entries", append(appendPackedShape(nil, b), 0), false},
		{"no entries, then some", group(names(1), "i", 0, 0, 0, 1, 0), false},
		{"more entries than there are", group(names(1), "i", 2, 0, 0, 1, 0), false},
		{"2^40 entries", group(names(1), "i", 1<<40, 0, 0, 1, 0), false},
		{"the last cut-off", group(names(1), "i", 1, 1<<62, 0, 1, 0), true},
		{"a cut-off beyond", group(names(1), "i", 1, 1<<62+1, 0, 1, 0), false},
		{"an end beyond", group(names(1), "i", 1, 0, 1<<62+1, 1, 0), false},
		{"an index beyond", group(names(1), "i", 1, 0, 0, 1, 1<<32), false},
		{"the most names", group(names(MaxClaims), "i", 1, 0, 0, 1, 0), true},
		{"a name more", group(names(MaxClaims+1), "i", 1, 0, 0, 1, 0), false},
		{"the longest name", group([]string{long(MaxName)}, "i", 1, 0, 0, 1, 0), true},
		{"a longer name", group([]string{long(MaxName + 1)}, "i", 1, 0, 0, 1, 0), false},
		{"the longest issuer", group(names(1), long(MaxIssuer), 1, 0, 0, 1, 0), true},
		{"a longer issuer", group(names(1), long(MaxIssuer+1), 1, 0, 0, 1, 0), false},
	} {
		if got, err := ReadEntries(c.packed); (err == nil) != c.ok {
			t.Errorf("%s: got %d entries, %v, want them read: %v", c.name, len(got), err, c.ok)
		}
	}
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
