package control

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"

	"rescind/revocation/ledger"
)

// Import is the answer to a body of many revocations.
type Import struct {
	Accepted int      `json:"accepted" doc:"Lines of the body: all of them are in force"`
	Revision uint64   `json:"revision" doc:"The revision of the log as of which they are"`
	Replicas *Applied `json:"replicas,omitempty" doc:"With wait: who has it in force"`
}

// postLines makes all revocations of an NDJSON body, or none.
func (s *Server) postLines(ctx context.Context, in *postInput) (*postOutput, error) {
	who := callerOf(ctx)
	entry := who.entry(s, ledger.ActImport)
	wait, p := in.limit()
	if p != nil {
		return nil, s.refuse(ctx, entry, p)
	}
	if in.DryRun != "" {
		return nil, s.refuse(ctx, entry, invalid(ProblemError{Member: "dry_run", Message: "is for one revocation, not for lines of them"}))
	}
	if !who.has(Revoker, Operator) {
		return nil, s.deny(ctx, entry, "this takes the role revoker or operator")
	}
	lines := split(in.RawBody)
	entry.Count = len(lines)
	switch {
	case len(lines) == 0:
		return nil, s.refuse(ctx, entry, invalid(ProblemError{Message: "the body has no lines"}))
	case len(lines) > maxLines:
		return nil, s.refuse(ctx, entry, problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d lines; send it in parts", maxLines)))
	}
	read := s.readLines(lines, who)
	entry.Issuers = read.issuers()
	if read.faults != nil {
		return nil, s.refuse(ctx, entry, invalid(read.faults...))
	}
	if read.denials != nil {
		p := s.deny(ctx, entry, fmt.Sprintf("%d lines are not allowed to this credential", len(read.denials)))
		p.Errors = clipFaults(read.denials)
		return nil, p
	}
	revision, _, _, err := s.ledger.Revoke(ctx, read.candidates, entry)
	if err != nil {
		return nil, s.unavailable(err)
	}
	body := Import{Accepted: len(lines), Revision: revision, Replicas: s.applied(ctx, revision, wait)}
	return &postOutput{Status: body.Replicas.status(http.StatusCreated), Body: body}, nil
}

// line is one of a body, and its number.
type line struct {
	number int
	text   []byte
}

// split finds the lines that are not blank, at most one more than are allowed.
func split(body []byte) (lines []line) {
	number := 0
	for text := range bytes.Lines(body) {
		number++
		if text = bytes.TrimSpace(text); len(text) > 0 {
			lines = append(lines, line{number, text})
		}
		if len(lines) > maxLines {
			break
		}
	}
	return lines
}

// linesRead is what some lines come to.
type linesRead struct {
	candidates []ledger.Candidate
	faults     []ProblemError
	denials    []ProblemError
}

// readLines reads the lines on all processors; the result is in their order.
func (s *Server) readLines(lines []line, who caller) linesRead {
	now := s.ledger.Now()
	n := min(runtime.GOMAXPROCS(0), len(lines))
	parts := make([]linesRead, n)
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			part := &parts[i]
			from, to := len(lines)*i/n, len(lines)*(i+1)/n
			part.candidates = make([]ledger.Candidate, 0, to-from)
			for _, l := range lines[from:to] {
				c, _, faults := s.candidate(l.text, now, who.Name)
				for _, f := range faultsOf(faults) {
					f.Line = l.number
					part.faults = append(part.faults, f)
				}
				if faults != nil {
					continue
				}
				if why := who.forbids(&c.Revocation); why != "" {
					part.denials = append(part.denials, ProblemError{Line: l.number, Message: why})
				}
				part.candidates = append(part.candidates, c)
			}
		})
	}
	all.Wait()
	out := linesRead{candidates: make([]ledger.Candidate, 0, len(lines))}
	for _, p := range parts {
		out.candidates = append(out.candidates, p.candidates...)
		out.faults = append(out.faults, p.faults...)
		out.denials = append(out.denials, p.denials...)
	}
	out.faults = clipFaults(out.faults)
	return out
}

// clipFaults bounds an answer; the last one it lists says that there are more.
func clipFaults(faults []ProblemError) []ProblemError {
	if len(faults) <= maxFaultLines {
		return faults
	}
	return append(faults[:maxFaultLines:maxFaultLines], ProblemError{
		Line: faults[maxFaultLines].Line, Message: fmt.Sprintf("from here on there are %d more faults", len(faults)-maxFaultLines)})
}

// issuers are those of the lines, as many as a line of the audit takes.
func (r *linesRead) issuers() (out []string) {
	for i := range r.candidates {
		if iss := r.candidates[i].Issuer; !slices.Contains(out, iss) {
			if out = append(out, iss); len(out) == 100 {
				break
			}
		}
	}
	return out
}
