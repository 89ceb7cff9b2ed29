package control

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// Bounds of a page and of a wait.
const (
	maxLimit    = 1000
	maxWait     = time.Minute
	defaultWait = 5 * time.Second
)

// repeatable are the parameters that may be given more than once.
var repeatable = []string{"claim"}

// checkQuery refuses parameters that are empty or given twice. An empty
// dry_run is no false and no true, and must not be read as either.
func checkQuery(q url.Values) error {
	var faults []ledger.Fault
	for name, values := range q {
		switch {
		case name == "cursor": // empty is the first page
		case slices.Contains(values, ""):
			faults = append(faults, ledger.Fault{Fault: revocation.Fault{Member: name, Message: "is empty; give it a value or leave it out"}})
		case len(values) > 1 && !slices.Contains(repeatable, name):
			faults = append(faults, ledger.Fault{Fault: revocation.Fault{Member: name, Message: "is given twice"}})
		}
	}
	if faults == nil {
		return nil
	}
	slices.SortFunc(faults, func(a, b ledger.Fault) int { return strings.Compare(a.Member, b.Member) })
	return ledger.Invalidate(faults)
}

// Waiting is the pair of parameters that every change takes.
type Waiting struct {
	Wait    string `query:"wait" enum:"all" doc:"all: answer when every replica has the change in force"`
	Timeout string `query:"timeout" pattern:"^([0-9]+([.][0-9]+)?(ns|us|ms|s|m))+$" patternDescription:"a duration such as 5s, more than 0 and at most 1m" doc:"With wait: how long at most, as 5s (default) or 500ms; at most 1m" example:"5s"`
}

// limit returns how long to wait. It is 0 where the caller does not wait.
func (w *Waiting) limit() (time.Duration, *ledger.Refusal) {
	switch {
	case w.Wait == "" && w.Timeout != "":
		return 0, invalid("timeout", "needs wait=all")
	case w.Wait == "":
		return 0, nil
	case w.Timeout == "":
		return defaultWait, nil
	}
	d, err := time.ParseDuration(w.Timeout)
	if err != nil || d <= 0 || d > maxWait {
		return 0, invalid("timeout", "must be a duration such as 5s, more than 0 and at most 1m")
	}
	return d, nil
}

// Paging is the pair of parameters that every list takes.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page, at most; a page may have fewer, even none, and still a next_cursor"`
	Cursor string `query:"cursor" maxLength:"128" doc:"next_cursor of the page before"`
}

// place reads a cursor, which is two numbers of the list.
func (p *Paging) place(kind string) (a, b uint64, err error) {
	if p.Cursor == "" {
		return 0, 0, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	parts := strings.Split(string(raw), ".")
	if err == nil && len(parts) == 3 && parts[0] == kind {
		a, err = strconv.ParseUint(parts[1], 10, 64)
		if err == nil {
			b, err = strconv.ParseUint(parts[2], 10, 32)
		}
		if err == nil {
			return a, b, nil
		}
	}
	return 0, 0, invalid("cursor", "is not a cursor of this list")
}

// cursor writes a place for place to read.
func cursor(kind string, a, b uint64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s.%d.%d", kind, a, b))
}
