package ledger

import (
	"errors"
	"strconv"
	"strings"

	"rescind/revocation"
)

// Errors of the operations, beside [Refusal].
var (
	// ErrNotReady says that the log has not been read yet, or that the ledger
	// has ended.
	ErrNotReady = errors.New("the control endpoint is not ready")
	// ErrUnknown says that there is no such revocation, that it has expired, or
	// that the caller may not know of it.
	ErrUnknown = errors.New("there is no such revocation; it may have expired")
	// ErrUnknownWrite says that a revision has no such write, that all of its
	// revocations have expired, or that the caller may not know of it.
	ErrUnknownWrite = errors.New("the revision has no such write; its revocations may have expired")
	// ErrTooLarge says that a request does not fit one message of the log.
	ErrTooLarge = errors.New("the request is more than the log takes at once; send it in parts")
)

// Cause says why an operation is refused.
type Cause int

// The causes of a refusal.
const (
	Invalid       Cause = iota // the request is wrong in itself, or meets a bound
	Forbidden                  // the caller may not do this
	Unconfirmed                // the caller must confirm
	TooLarge                   // the request has more than is taken at once
	UnknownIssuer              // no replica accepts the issuer
	SeveralWrites              // the caller must say which write it means
)

// Refusal is the error of an operation that changes nothing because of its
// request or its caller.
type Refusal struct {
	Cause  Cause
	Detail string
	Faults []Fault // each fault of the request
	Writes []Write // of a revision that holds several
}

// Fault is one fault of a request.
type Fault struct {
	Line int // of a body of many lines, from 1; 0 for a lone request
	revocation.Fault
}

// Error returns the detail.
func (r *Refusal) Error() string { return r.Detail }

// Invalidate returns the refusal of a request with these faults.
func Invalidate(faults []Fault) *Refusal {
	words := make([]string, 0, 3)
	for _, f := range faults[:min(len(faults), 3)] {
		words = append(words, strings.TrimSpace(f.Member+" "+f.Message))
	}
	detail := strings.Join(words, "; ")
	if len(faults) > 3 {
		detail += "; and " + strconv.Itoa(len(faults)-3) + " more"
	}
	return &Refusal{Cause: Invalid, Detail: detail, Faults: faults}
}
