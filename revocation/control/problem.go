package control

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// Problem is an error as RFC 9457 writes it. Nothing of a request is echoed in
// it but the names of members.
type Problem struct {
	Type   string         `json:"type" format:"uri-reference" doc:"about:blank: the status says it all"`
	Title  string         `json:"title" doc:"The status in words"`
	Status int            `json:"status" doc:"The HTTP status"`
	Detail string         `json:"detail,omitempty" doc:"What is wrong, and what to do about it"`
	Errors []ProblemError `json:"errors,omitempty" doc:"Each fault of the request"`

	header http.Header
}

// ProblemError is one fault of a request.
type ProblemError struct {
	Line    int    `json:"line,omitempty" doc:"Line of an NDJSON body, from 1"`
	Member  string `json:"member,omitempty" doc:"Member of the body, or name of the parameter; absent for the whole" example:"claims.sub"`
	Message string `json:"message" doc:"What is wrong with it"`
}

// Error, GetStatus, GetHeaders and ContentType make it what huma answers.
func (p *Problem) Error() string             { return p.Detail }
func (p *Problem) GetStatus() int            { return p.Status }
func (p *Problem) GetHeaders() http.Header   { return p.header }
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func problem(status int, detail string, faults ...ProblemError) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults}
}

// retry says that trying again makes sense, in a second.
func (p *Problem) retry() *Problem { return p.with("Retry-After", "1") }

func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// write answers a request that did not get as far as huma.
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

// Unavailable answers in the place of a server that cannot be made yet.
func Unavailable(w http.ResponseWriter) {
	problem(http.StatusServiceUnavailable, ledger.ErrNotReady.Error()).retry().write(w)
}

func faultsOf(faults []revocation.Fault) []ProblemError {
	out := make([]ProblemError, len(faults))
	for i, f := range faults {
		out[i] = ProblemError{Member: f.Member, Message: f.Message}
	}
	return out
}

// invalid is a request that is wrong in itself.
func invalid(faults ...ProblemError) *Problem {
	words := make([]string, 0, 3)
	for _, f := range faults[:min(len(faults), 3)] {
		words = append(words, strings.TrimSpace(f.Member+" "+f.Message))
	}
	detail := strings.Join(words, "; ")
	if len(faults) > 3 {
		detail += "; and " + strconv.Itoa(len(faults)-3) + " more"
	}
	return problem(http.StatusUnprocessableEntity, detail, faults...)
}

// huma makes its own errors with this: those of parameters, mostly.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		var faults []ProblemError
		for _, err := range errs {
			f := ProblemError{Message: err.Error()}
			if d, ok := err.(huma.ErrorDetailer); ok {
				detail := d.ErrorDetail()
				_, member, found := strings.Cut(detail.Location, ".")
				if !found {
					member = detail.Location
				}
				f = ProblemError{Member: member, Message: detail.Message} // not its value
			}
			faults = append(faults, f)
		}
		if status == http.StatusUnprocessableEntity && len(faults) > 0 {
			return invalid(faults...)
		}
		if status >= 500 { // what went wrong inside is for the log
			faults = nil
		}
		return problem(status, msg, faults...)
	}
}
