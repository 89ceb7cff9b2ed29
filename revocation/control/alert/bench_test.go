package alert

import (
	"fmt"
	"path/filepath"
	"testing"

	"rescind/revocation/insight"
)

// The cost of writing a full inbox.
func BenchmarkSave(b *testing.B) {
	in := open(b, Options{File: filepath.Join(b.TempDir(), "alerts.json")})
	for i := range maxAlerts {
		a := alertOf(insight.Detectors[i%9], fmt.Sprint("k", i))
		a.Subject, a.TokenID, a.Session, a.Networks = "alice@example.com", "t1234567890", "s1234567890", []string{"203.0.113.0/24"}
		in.TakeFromNode("replica-a", []insight.Alert{a})
	}
	for b.Loop() {
		in.save()
	}
}

// From a replica's word to its being kept, with an inbox that is full, and with
// an action that must not act twice.
func BenchmarkTake(b *testing.B) {
	once := (&told{}).target("once")
	once.OncePerKey = true
	in := open(b, Options{Targets: []Target{once}})
	n := 0
	for b.Loop() {
		n++
		take(b, in, "replica-a", alertOf(insight.Detectors[n%9], fmt.Sprint("k", n)))
	}
}
