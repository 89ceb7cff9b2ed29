package stream

import (
	"context"
	"net/http"
	"time"
)

// Refusal says why a token was refused (RFC 8936, section 2.3).
type Refusal struct {
	Code        string `json:"err"`
	Description string `json:"description"`
}

// Request asks for tokens, and acknowledges others.
type Request struct {
	Max         int                `json:"maxEvents"`
	Immediately bool               `json:"returnImmediately"`
	Ack         []string           `json:"ack,omitempty"`
	Refused     map[string]Refusal `json:"setErrs,omitempty"`
}

// Answer has tokens by their jti.
type Answer struct {
	Tokens map[string]string `json:"sets"`
	More   bool              `json:"moreAvailable"`
}

// LongPoll is the longest time for which an answer without tokens is waited for.
const LongPoll = 30 * time.Second

// Poll asks for tokens at the URL of a stream.
func (t *Transmitter) Poll(ctx context.Context, at string, r Request) (*Answer, error) {
	limit := requestTimeout
	if !r.Immediately {
		limit += LongPoll
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := &Answer{}
	return a, t.patientCall(ctx, http.MethodPost, at, r, a)
}
