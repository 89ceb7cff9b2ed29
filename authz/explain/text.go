package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"

	"rescind/jwks/jwt"
	"rescind/revocation/printable"
)

// Bounds of a text, in bytes, and of a list in it. Claims and keys are chosen by
// somebody else.
const (
	longestText = 300
	longestList = 12
	// nearestOf bounds the names that are compared with a misspelt one, and their
	// size.
	nearestOf   = 1000
	longestName = 500
)

// printf returns a text that is printable and bounded.
func printf(format string, args ...any) string {
	return printable.Clean(fmt.Sprintf(format, args...), 4*longestText)
}

// quote returns a name within quotes.
func quote(s string) string { return printable.Cut(strconv.Quote(s), longestText) }

// claimText returns a claim of the token as its JSON, or says that it is absent.
func (e *explanation) claimText(name jwt.ClaimName) string {
	claim, ok := name.In(e.token.Claims)
	if !ok {
		return label(name) + ": absent"
	}
	return label(name) + ": " + jsonText(claim)
}

// member returns a member of the payload, as claimText does.
func (e *explanation) member(name string) string { return e.claimText(jwt.MemberName(name)) }

// label returns the name of a claim without quotes, unless it is not printable.
func label(name jwt.ClaimName) string {
	return printable.Cut(printable.Quote(name.String()), longestText)
}

// jsonText returns a claim as JSON that is printable and bounded.
func jsonText(claim any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(claim); err != nil {
		return "a value that cannot be shown"
	}
	return printable.Cut(string(printable.JSON(bytes.TrimSpace(b.Bytes()))), longestText)
}

// listText returns names for a demand: one, or one of several.
func listText(names []string) string {
	var quoted []string
	for _, n := range names[:min(len(names), longestList)] {
		quoted = append(quoted, quote(n))
	}
	text := strings.Join(quoted, ", ")
	if more := len(names) - longestList; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if len(names) == 1 {
		return text
	}
	return "one of " + text
}

// nearest returns the name that differs in the fewest letters, or "" if none is
// near.
func nearest(name string, names []string) string {
	best, least := "", max(len(name)/2, 2)
	for _, n := range names[:min(len(names), nearestOf)] {
		if len(n) > longestName || len(name) > longestName {
			continue
		}
		if d := levenshtein.ComputeDistance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// dateText returns a date of the token: as it stands there, as a time, and how far
// it is from now.
func (e *explanation) dateText(name string, d jwt.Date) string {
	if !d.Set {
		return name + ": absent"
	}
	at := time.UnixMicro(d.Micros)
	return printf("%s (%s, %s)", e.member(name), at.UTC().Format(time.RFC3339), distance(at.Sub(e.Now)))
}

// distance returns how far an instant is from now.
func distance(d time.Duration) string {
	switch round := d.Round(time.Second); {
	case round < 0:
		return (-round).String() + " ago"
	case round > 0:
		return "in " + round.String()
	}
	return "now"
}
