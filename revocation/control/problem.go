package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
)

// Problem is an error as RFC 9457 writes it. It repeats nothing of a request but
// the names of members.
type Problem struct {
	Type   string         `json:"type" format:"uri-reference" doc:"about:blank, because the status is the type; or unknown_issuer: no replica accepts the issuer"`
	Title  string         `json:"title" doc:"The status in words"`
	Status int            `json:"status" doc:"The HTTP status"`
	Detail string         `json:"detail,omitempty" doc:"The fault, and the way to correct it"`
	Errors []ProblemError `json:"errors,omitempty" doc:"Each fault of the request"`
	Writes []ledger.Write `json:"writes,omitempty" doc:"With 409: the writes of the revision, of which the request must name one"`

	header http.Header
}

// ProblemError is one fault of a request.
type ProblemError struct {
	Line    int    `json:"line,omitempty" doc:"Line of an NDJSON body, from 1"`
	Member  string `json:"member,omitempty" doc:"Member of the body, or name of the parameter; absent for the whole" example:"claims.sub"`
	Message string `json:"message" doc:"The fault of this member"`
}

// Error, GetStatus, GetHeaders and ContentType implement the error of huma.
func (p *Problem) Error() string             { return p.Detail }
func (p *Problem) GetStatus() int            { return p.Status }
func (p *Problem) GetHeaders() http.Header   { return p.header }
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func problem(status int, detail string, faults ...ProblemError) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults}
}

// retry adds that the caller may try again in a second.
func (p *Problem) retry() *Problem { return p.with("Retry-After", "1") }

func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// write answers a request that huma does not see.
func (p *Problem) write(w http.ResponseWriter) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	b, err := json.Marshal(p)
	if err != nil { // strings and numbers always marshal
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_, _ = w.Write(b)
}

// Unavailable answers in the place of a [Server] before the log is open.
func Unavailable(w http.ResponseWriter) {
	problem(http.StatusServiceUnavailable, ledger.ErrNotReady.Error()).retry().write(w)
}

// problemOf returns the problem document of an error. No other place maps
// errors to answers.
func (s *Server) problemOf(err error) *Problem {
	var p *Problem
	var refusal *ledger.Refusal
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refusal):
		return refusalProblem(refusal)
	case errors.Is(err, ledger.ErrUnknown):
		return problem(http.StatusNotFound, err.Error(), ProblemError{Member: "id", Message: "is not known"})
	case errors.Is(err, intake.ErrUnknownEvent):
		return problem(http.StatusNotFound, err.Error(), ProblemError{Member: "id", Message: "is not known"})
	case errors.Is(err, ledger.ErrUnknownWrite):
		return problem(http.StatusNotFound, err.Error(), ProblemError{Member: "revision", Message: "has no such write"})
	case errors.Is(err, ledger.ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, ledger.ErrNotReady):
		return problem(http.StatusServiceUnavailable, err.Error()).retry()
	}
	s.logger.Error("a request failed", "error", err)
	return problem(http.StatusServiceUnavailable, "this cannot be made durable now, though it may still come into force; ask again").retry()
}

func refusalProblem(r *ledger.Refusal) *Problem {
	faults := make([]ProblemError, len(r.Faults))
	for i, f := range r.Faults {
		faults[i] = ProblemError{Line: f.Line, Member: f.Member, Message: f.Message}
	}
	p := problem(statusOf[r.Cause], r.Detail, faults...)
	if p.Writes = r.Writes; r.Cause == ledger.UnknownIssuer {
		p.Type = TypeUnknownIssuer
	}
	return p
}

// TypeUnknownIssuer is the type of the problem that no replica accepts the
// issuer of a revocation.
const TypeUnknownIssuer = "unknown_issuer"

var statusOf = map[ledger.Cause]int{
	ledger.Invalid:       http.StatusUnprocessableEntity,
	ledger.Forbidden:     http.StatusForbidden,
	ledger.TooLarge:      http.StatusRequestEntityTooLarge,
	ledger.Unconfirmed:   http.StatusConflict,
	ledger.UnknownIssuer: http.StatusUnprocessableEntity,
	ledger.SeveralWrites: http.StatusConflict,
}

// invalid returns the refusal of a request for one parameter.
func invalid(member, message string) *ledger.Refusal {
	return ledger.Invalidate([]ledger.Fault{{Fault: revocation.Fault{Member: member, Message: message}}})
}

// huma makes its own errors with this. Most are errors of parameters.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		if status >= 500 { // the cause is for the log
			return problem(status, msg)
		}
		var faults []ledger.Fault
		for _, err := range errs {
			faults = append(faults, faultOf(err))
		}
		if status == http.StatusUnprocessableEntity && len(faults) > 0 {
			return refusalProblem(ledger.Invalidate(faults))
		}
		return problem(status, msg)
	}
}

// faultOf returns a fault of huma, without the value that the request has.
func faultOf(err error) ledger.Fault {
	d, ok := err.(huma.ErrorDetailer)
	if !ok {
		return ledger.Fault{Fault: revocation.Fault{Message: err.Error()}}
	}
	detail := d.ErrorDetail()
	_, member, found := strings.Cut(detail.Location, ".")
	if !found {
		member = detail.Location
	}
	message := detail.Message
	if strings.HasPrefix(message, "invalid date/time") { // huma writes the layout of Go, which few callers read
		message = "must be a time such as 2026-11-24T07:00:01Z; write + as %2B"
	}
	return ledger.Fault{Fault: revocation.Fault{Member: member, Message: message}}
}
