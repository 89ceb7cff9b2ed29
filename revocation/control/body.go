package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// Bounds of a body.
const (
	maxBody   = revocation.MaxToken + 16<<10 // a token and the members beside it
	maxImport = 64 << 20
	maxLines  = 100_000

	// A small body, and each part of an import, may take bodyTime. An import
	// as a whole may take importTime.
	bodyTime   = 5 * time.Second
	importPart = 256 << 10
	importTime = 2 * time.Minute
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// contentType returns the media type of the body, in lower case. It is JSON
// where the header is absent, and empty where the header cannot be read.
func contentType(header string) string {
	if header == "" {
		return typeJSON
	}
	t, _, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	return t
}

// isImport reports whether the request is a body of many revocations.
func isImport(r *http.Request) bool {
	return r.Method == http.MethodPost && contentType(r.Header.Get("Content-Type")) == typeNDJSON
}

// readBody takes the whole body, within the bounds of its type, so that nothing
// later waits for the caller.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, c *call) error {
	if r.Method != http.MethodPost {
		return nil
	}
	limit := int64(maxBody)
	switch contentType(r.Header.Get("Content-Type")) {
	case typeJSON:
	case typeNDJSON:
		limit = maxImport
	default:
		return s.refuseBody(r, c, problem(http.StatusUnsupportedMediaType, "the body must be application/json, or application/x-ndjson with one revocation a line").
			with("Accept-Post", typeJSON+", "+typeNDJSON))
	}
	tooLarge := problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit))
	if r.ContentLength > limit {
		return s.refuseBody(r, c, tooLarge)
	}
	var b bytes.Buffer
	n, err := s.copyInTime(&b, w, r, limit+1)
	switch {
	case err != nil:
		return s.refuseBody(r, c, problem(http.StatusRequestTimeout, fmt.Sprintf("the body did not arrive in time: each %d bytes of it may take %s, and all of it %s", importPart, s.bodyTime, importTime)))
	case n == 0:
		return s.refuseBody(r, c, problem(http.StatusUnprocessableEntity, "the body is empty"))
	case n > limit:
		return s.refuseBody(r, c, tooLarge)
	}
	r.Body = io.NopCloser(&b)
	return nil
}

// copyInTime reads at most limit bytes of the body. Each part has its own
// deadline, so a slow upload goes on and a stalled one ends.
func (s *Server) copyInTime(b *bytes.Buffer, w http.ResponseWriter, r *http.Request, limit int64) (n int64, err error) {
	connection := http.NewResponseController(w)
	end := time.Now().Add(importTime)
	for n < limit {
		_ = connection.SetReadDeadline(earlier(time.Now().Add(s.bodyTime), end)) // not supported in tests without a connection
		part, err := io.CopyN(b, r.Body, min(importPart, limit-n))
		if n == 0 && part == importPart { // a caller that has sent so much is worth the room for the rest
			b.Grow(int(max(0, min(r.ContentLength, limit)-part)) + bytes.MinRead)
		}
		n += part
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
	}
	_ = connection.SetReadDeadline(time.Time{})
	return n, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// dropBody makes the server answer without waiting for the rest of a body.
func dropBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now())
}

// refuseBody writes the refusal of a body to the audit, and returns p.
func (s *Server) refuseBody(r *http.Request, c *call, p *Problem) error {
	c.decided = true
	e := s.authority.Entry(&c.Caller, actionOf(r))
	_ = s.authority.Refuse(r.Context(), e, &ledger.Refusal{Detail: p.Detail})
	return p
}
