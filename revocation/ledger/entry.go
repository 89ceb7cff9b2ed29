package ledger

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rescind/revocation/printable"
)

// Bounds of an entry of the audit, in bytes. A refused request must not write
// more than a request costs.
const (
	maxAuditEntry = 4 << 10
	maxText       = 500
	maxIssuerText = 1 << 10 // of all issuers together
)

// bounded returns e with at most [maxAuditEntry] bytes as JSON. It shortens
// texts, and leaves out issuers and the target where that is not enough.
func (e AuditEntry) bounded() AuditEntry {
	if e.size() <= maxAuditEntry {
		return e
	}
	e.Reason, e.Detail = printable.Cut(e.Reason, maxText), printable.Cut(e.Detail, maxText)
	e.cutIssuers(maxIssuerText)
	if e.size() <= maxAuditEntry {
		return e
	}
	e.Target = nil
	e.By, e.ID, e.From = printable.Cut(e.By, 200), printable.Cut(e.ID, 64), printable.Cut(e.From, 64)
	return e
}

// cutIssuers keeps the first issuers, as many as have limit bytes together.
func (e *AuditEntry) cutIssuers(limit int) {
	for i, iss := range e.Issuers {
		if limit -= len(iss); limit < 0 {
			e.IssuersOmitted = len(e.Issuers) - i
			e.Issuers = e.Issuers[:i:i]
			return
		}
	}
}

func (e *AuditEntry) size() int {
	b, err := appendJSON(nil, e)
	if err != nil { // strings and numbers always marshal
		return maxAuditEntry + 1
	}
	return len(b)
}

// appendJSON appends v without the escapes for HTML, which would make texts
// longer than their bounds.
func appendJSON(b []byte, v any) ([]byte, error) {
	w := bytes.NewBuffer(b)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(w.Bytes(), []byte("\n")), err
}

// refusals bound the entries of the audit that the refused requests of one
// credential make. Its zero value is ready.
type refusals struct {
	mu sync.Mutex
	of map[string]*refused
}

type refused struct {
	entries *rate.Limiter
	missing int
}

// allow reports whether a refusal of a credential gets an entry, and how many
// before it got none. Credentials are those of the configuration.
func (r *refusals) allow(by string) (missing int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]*refused{}
	}
	of := r.of[by]
	if of == nil {
		of = &refused{entries: rate.NewLimiter(5, 200)}
		if by == "" { // failed logins
			of.entries = rate.NewLimiter(rate.Every(10*time.Second), 20)
		}
		r.of[by] = of
	}
	if !of.entries.Allow() {
		of.missing++
		return 0, false
	}
	missing, of.missing = of.missing, 0
	return missing, true
}
