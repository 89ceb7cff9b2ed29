package ledger

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"rescind/revocation"
)

// Bounds of an order.
const (
	maxFaults  = 1000 // listed of one order
	maxIssuers = 100  // listed in one entry of the audit
)

// prepared is an order whose lines the caller may revoke.
type prepared struct {
	candidates []Candidate
	token      string // raw, of a lone revocation by token
	entry      AuditEntry
	breadth    breadth
	warnings   []string
}

// prepare reads and accepts every line of an order, and decides whether the
// caller may revoke it. A refusal is in the audit.
func (a *Authority) prepare(ctx context.Context, c *Caller, o *Order) (*prepared, error) {
	entry := c.audit(a.ledger.now(), o.Action)
	if !c.Has(Revoker, Operator) {
		return nil, a.deny(ctx, entry, needsRole)
	}
	known := a.known()
	read := (&reader{authority: a, caller: c, known: &known, now: a.ledger.now()}).read(o.Lines)
	if o.Action == ActImport {
		entry.Count = len(o.Lines)
	}
	for i := range read.candidates {
		read.candidates[i].once = o.Once
	}
	entry.Issuers, entry.Detail = read.issuers(), o.Note
	if len(o.Lines) == 1 && len(read.candidates) == 1 {
		r := &read.candidates[0].Revocation
		entry.Target, entry.Reason = TargetOf(&r.Target), r.Reason
	}
	switch {
	case read.faults != nil:
		return nil, a.Refuse(ctx, entry, Invalidate(clip(read.faults)))
	case read.denials != nil:
		detail := read.denials[0].Message
		if o.Action == ActImport {
			detail = fmt.Sprintf("%d lines are not allowed to this credential", len(read.denials))
		}
		return nil, a.Refuse(ctx, entry, &Refusal{Cause: Forbidden, Detail: detail, Faults: clip(read.denials)})
	}
	p := &prepared{candidates: read.candidates, token: read.token, entry: entry, breadth: breadthOfAll(read.candidates, &known)}
	if faults := unknownIssuers(read.candidates, &known, c); faults != nil {
		if !o.UnknownIssuer {
			r := Invalidate(clip(faults))
			r.Cause = UnknownIssuer
			return nil, a.Refuse(ctx, entry, r)
		}
		p.warnings = append(p.warnings, fmt.Sprintf("no replica accepts the issuer of %d of the revocations, so these deny nobody for now", len(faults)))
	}
	p.warnings = append(p.warnings, read.warnings.texts(o.Action)...)
	return p, nil
}

// reading is the outcome of reading some lines.
type reading struct {
	candidates []Candidate
	token      string // raw, of the last line
	faults     []Fault
	denials    []Fault
	warnings   lineWarnings
}

// reader reads the lines of one order.
type reader struct {
	authority *Authority
	caller    *Caller
	known     *revocation.KnownIssuers
	now       time.Time
}

// linesAlone is the length from which an order is read on several processors. A
// shorter one takes a few milliseconds, and leaves the others to other callers.
const linesAlone = 4096

// read reads the lines, many of them on all processors. The outcome is in their
// order.
func (r *reader) read(lines []Line) reading {
	out := reading{candidates: make([]Candidate, len(lines))}
	parts := make([]reading, min(runtime.GOMAXPROCS(0), 1+len(lines)/linesAlone))
	var all sync.WaitGroup
	for i := range parts {
		from, to := len(lines)*i/len(parts), len(lines)*(i+1)/len(parts)
		all.Go(func() {
			parts[i].candidates = out.candidates[from:from:to]
			for j := from; j < to; j++ {
				r.add(&parts[i], &lines[j])
			}
		})
	}
	all.Wait()
	out.candidates = out.candidates[:0]
	for _, p := range parts { // a part with faults has fewer candidates than lines
		out.candidates = append(out.candidates, p.candidates...)
		out.faults = append(out.faults, p.faults...)
		out.denials = append(out.denials, p.denials...)
		out.warnings.addAll(p.warnings)
	}
	if len(lines) == 1 {
		out.token = parts[0].token
	}
	return out
}

// add reads one line, and decides whether the caller may revoke it.
func (r *reader) add(to *reading, line *Line) {
	candidate, request, faults := r.authority.accept(r.caller, line, r.now)
	for _, f := range faults {
		to.faults = append(to.faults, Fault{line.Number, f})
	}
	if faults != nil {
		return
	}
	if why := r.caller.forbids(&candidate.Revocation, r.known); why != "" {
		to.denials = append(to.denials, Fault{line.Number, revocation.Fault{Message: why}})
	}
	to.candidates = append(to.candidates, candidate)
	to.token = request.Token
	for _, w := range request.Warnings() {
		to.warnings.add(w, 1)
	}
}

// enough is by how much less than asked for an existing revocation may last
// and still be the answer to a repeated request.
const enough = time.Minute

// accept makes a candidate of one line. It also returns the request that the
// line asks with.
func (a *Authority) accept(c *Caller, line *Line, now time.Time) (_ Candidate, request *revocation.Request, faults []revocation.Fault) {
	if request = line.Request; request == nil {
		if request, faults = revocation.ParseRequest(line.Body); faults != nil {
			return Candidate{}, nil, faults
		}
	}
	r, faults := request.Accept(now, a.ledger.retention, c.Name)
	if faults != nil {
		return Candidate{}, nil, faults
	}
	out := newCandidate(r, revocation.MicrosOf(r.ExpiresAt.Time().Add(-enough)))
	out.Line = line.Number
	return out, request, nil
}

// issuers returns the issuers of the candidates, as many as an entry of the audit
// could hold.
func (r *reading) issuers() (out []string) {
	for i := range r.candidates {
		if iss := r.candidates[i].Issuer; !slices.Contains(out, iss) {
			if out = append(out, iss); len(out) == maxIssuers {
				break
			}
		}
	}
	return out
}

// clip bounds the faults of an answer. The last fault then says how many more
// there are.
func clip(faults []Fault) []Fault {
	if len(faults) <= maxFaults {
		return faults
	}
	return append(faults[:maxFaults:maxFaults], Fault{faults[maxFaults].Line,
		revocation.Fault{Message: fmt.Sprintf("from here on there are %d more faults", len(faults)-maxFaults)}})
}
