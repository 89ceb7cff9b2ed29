package intake

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// eventName is the name of an event in the reason of its revocations. It tells a
// repetition of the event from another event, on every node and after a restart.
type eventName struct {
	kind string // the type of the event, in the form of word
	id   string // in the form of word; noID: the sender gives none
	at   time.Time
}

// Bounds of a type or an ID that stands in a reason as it is.
const (
	maxWord = 160
	noID    = "-"
	hashed  = "sha256:"
)

// nameOf returns the name of an event that was received now. An event of no time,
// or of a later one, has happened now.
func nameOf(e *Event, now time.Time) eventName {
	n := eventName{kind: word(e.Type), id: noID, at: e.At}
	if e.ID != "" {
		n.id = word(e.ID)
	}
	if n.at.IsZero() || n.at.After(now) {
		n.at = now
	}
	n.at = n.at.UTC().Truncate(time.Microsecond)
	return n
}

// word returns a text as it is if it is a short word of visible ASCII. Another
// text becomes its SHA-256, and so does one that looks like a hash.
func word(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if s == "" || s == noID || len(s) > maxWord || strings.ContainsFunc(s, odd) || strings.HasPrefix(s, hashed) {
		sum := sha256.Sum256([]byte(s))
		return hashed + hex.EncodeToString(sum[:])
	}
	return s
}

// String returns the reason of a revocation that the event makes. parseEventName
// reads it.
func (n eventName) String() string {
	return fmt.Sprintf("event %s; id %s; at %s", n.kind, n.id, n.at.Format(time.RFC3339Nano))
}

// parseEventName reads the name of an event from the reason of a revocation.
func parseEventName(reason string) (n eventName, ok bool) {
	parts := strings.Split(reason, "; ")
	if len(parts) != 3 {
		return eventName{}, false
	}
	kind, ok1 := strings.CutPrefix(parts[0], "event ")
	id, ok2 := strings.CutPrefix(parts[1], "id ")
	at, ok3 := strings.CutPrefix(parts[2], "at ")
	t, err := time.Parse(time.RFC3339Nano, at)
	n = eventName{kind, id, t.UTC()}
	return n, ok1 && ok2 && ok3 && err == nil && n.String() == reason
}

// same reports whether two names are of one event. Without an ID the type and
// the time tell.
func (n eventName) same(o eventName) bool {
	return n.kind == o.kind && n.id == o.id && (n.id != noID || n.at.Equal(o.at))
}

// key returns a short text that is the same for the same event of one intake
// alone.
func (n eventName) key(intake string) string {
	text := intake + " " + n.kind + " " + n.id
	if n.id == noID {
		text += " " + n.at.Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
