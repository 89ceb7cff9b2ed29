package revocation

import (
	"reflect"
	"strings"
	"testing"
)

// A request reads the same whatever was read before it. The decoders have tables
// that the next request uses again.
func TestParseRequestForgetsTheRequestBefore(t *testing.T) {
	good := `{"issuer":"https://idp.example/","claims":{"sub":"alice","n":7}}`
	want, faults := ParseRequest([]byte(good))
	if faults != nil {
		t.Fatalf("%s: got the faults %v, want none", good, faults)
	}
	for _, before := range []string{
		"", "{", `{"issuer":"x"`, `{"claims":{"a":1,"a":2}}`, `{"claims":{"a":{"b":{"c":[`, `{"issuer":"x"} {"issuer":"y"}`, "{\"issuer\":\"\xff\"}",
		strings.Repeat(`{"claims":`, 5000), `{"claims":{` + strings.Repeat(`"n":1,`, 100), `{"reason":"` + strings.Repeat("x", 1<<16) + `"}`,
	} {
		for range 4 {
			_, _ = ParseRequest([]byte(before))
		}
		text := []byte(good)
		got, faults := ParseRequest(text)
		clear(text) // the request must not share memory with its text
		if faults != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s after %.40q: got %+v and the faults %v, want %+v", good, before, got, faults, want)
		}
	}
}
