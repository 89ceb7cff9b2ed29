package statuslist

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
)

// The vectors of the draft decode to the statuses that it names, and every other
// place of the long ones is 0.
func TestVectors(t *testing.T) {
	var file struct {
		Vectors []struct {
			Bits, Entries int
			List          string            `json:"lst"`
			Nonzero       map[uint64]Status `json:"expected_nonzero"`
			File          string
		}
		Small []struct{ Text string }
	}
	if err := json.Unmarshal(must(os.ReadFile("testdata/vectors.json")), &file); err != nil {
		t.Fatal(err)
	}
	o := Options{}.withDefaults()
	read := func(name string, bits int, lst string) *list {
		b, statuses, err := o.statuses(map[string]any{"bits": json.Number(strconv.Itoa(bits)), "lst": lst})
		if err != nil {
			t.Fatalf("%s: got error %v, want a list", name, err)
		}
		return &list{bits: b, statuses: statuses}
	}
	for _, v := range file.Vectors {
		l := read(v.File, v.Bits, v.List)
		if l.entries() != v.Entries {
			t.Errorf("%s: got %d entries, want %d", v.File, l.entries(), v.Entries)
		}
		got := map[uint64]Status{}
		for i := range uint64(l.entries()) {
			s, err := l.at(i)
			if err != nil {
				t.Fatalf("%s at %d: got error %v, want a status", v.File, i, err)
			}
			if s != Valid {
				got[i] = s
			}
		}
		maps.DeleteFunc(v.Nonzero, func(_ uint64, s Status) bool { return s == Valid }) // the vector of 8 bits names one
		if !maps.Equal(got, v.Nonzero) {
			t.Errorf("%s: got %v, want %v", v.File, got, v.Nonzero)
		}
		if _, err := l.at(uint64(v.Entries)); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("%s at its end: got error %v, want %v", v.File, err, ErrOutOfRange)
		}
	}
	if len(file.Vectors) != 4 || len(file.Small) != 2 {
		t.Fatalf("got %d long and %d small vectors, want 4 and 2", len(file.Vectors), len(file.Small))
	}
	for n, want := range [][]Status{{1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1}, {1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3}} {
		lst := regexp.MustCompile(`"lst": "([^"]+)"`).FindStringSubmatch(file.Small[n].Text)[1]
		l := read(lst, n+1, lst)
		for i, w := range want {
			if got, err := l.at(uint64(i)); got != w || err != nil {
				t.Errorf("%s at %d: got %d and error %v, want %d", lst, i, got, err, w)
			}
		}
		if l.entries() != len(want) {
			t.Errorf("%s: got %d entries, want %d", lst, l.entries(), len(want))
		}
	}
}

// The example of a whole token is accepted once its signature is, and its list is
// relied upon for MaxAge although its exp is years later.
func TestTheExampleOfTheDraft(t *testing.T) {
	var file struct {
		Example string `json:"status_list_jwt_example"`
	}
	if err := json.Unmarshal(must(os.ReadFile("testdata/vectors.json")), &file); err != nil {
		t.Fatal(err)
	}
	header, payload, ok := strings.Cut(file.Example, "\n.\n")
	if !ok {
		t.Fatalf("got the example %q, want a header, a dot and a payload", file.Example)
	}
	tok, err := jwt.Parse(b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + ".c2ln")
	if err != nil || tok.Type != "statuslist+jwt" {
		t.Fatalf("got type %q and error %v, want a statuslist+jwt", tok.Type, err)
	}
	o := Options{Issuer: "https://example.com"}.withDefaults()
	at := time.Unix(1686920170, 0)
	l, err := o.accept(tok, "https://example.com/statuslists/1", at, at)
	if err != nil {
		t.Fatalf("got error %v, want a list", err)
	}
	if l.ttl != 12*time.Hour || !l.expires.Equal(time.Unix(2291720170, 0)) || !l.until.Equal(at.Add(DefaultMaxAge)) {
		t.Errorf("got ttl %v, exp %v, relied upon until %v; want 12h, 2291720170 and a day later than %v", l.ttl, l.expires.Unix(), l.until, at)
	}
}
