package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

// Bounds of a call. Every call is safe to repeat: a revocation that is revoked or
// restored already stays so.
const (
	tries        = 4
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	patience     = 30 * time.Second // for an answer, beside the wait that the call asks for
	maxAnswer    = 64 << 20
)

// client calls the admin API.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// call is one request, which may be made several times.
type call struct {
	method, path string
	query        url.Values
	body         []byte
	contentType  string
	wait         time.Duration // that the call asks the API for
}

// set adds a parameter to the query.
func (c *call) set(name, value string) {
	if c.query == nil {
		c.query = url.Values{}
	}
	c.query.Set(name, value)
}

// answer is a success: a 2xx.
type answer struct {
	status int
	body   []byte
	date   time.Time // by the clock of the control endpoint
}

func (a *answer) into(v any) error {
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("the answer of the control endpoint does not fit its API: %w", err)
	}
	return nil
}

// do makes a call. It repeats a call that may succeed the next time, after a short
// pause.
func (c *client) do(ctx context.Context, r call) (*answer, error) {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, MaxInterval: longestPause, Multiplier: 3, RandomizationFactor: 0.3,
	}
	pauses.Reset()
	for try := 1; ; try++ {
		a, err := c.once(ctx, r)
		if err == nil {
			return a, nil
		}
		after, again := retry(err)
		if !again || try == tries || ctx.Err() != nil {
			return nil, c.explain(ctx, err)
		}
		if !pause(ctx, min(max(after, pauses.NextBackOff()), longestPause)) {
			return nil, c.explain(ctx, err)
		}
	}
}

// pause waits for d. It returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *client) once(ctx context.Context, r call) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+r.wait)
	defer cancel()
	target := c.base.JoinPath(r.path)
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", "rescind")
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if len(r.body) > 1<<20 { // so that a refusal comes before the body is sent
		req.Header.Set("Expect", "100-continue")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // read to the end, or given up
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		date, err := http.ParseTime(res.Header.Get("Date"))
		if err != nil {
			date = time.Now()
		}
		return &answer{res.StatusCode, body, date}, nil
	}
	return nil, refusalOf(res, body)
}

// refusal is any answer but a 2xx.
type refusal struct {
	control.Problem
	foreign bool // no problem document, so the API did not answer
	secure  bool // a server of TLS has answered a request without TLS
	after   time.Duration
}

func (r *refusal) Error() string {
	if r.Detail != "" {
		return r.Detail
	}
	return fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status))
}

func refusalOf(res *http.Response, body []byte) *refusal {
	r := &refusal{}
	contentType, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	if contentType != "application/problem+json" || json.Unmarshal(body, &r.Problem) != nil {
		r.Problem, r.foreign = control.Problem{}, true
		r.secure = bytes.Contains(body, []byte("HTTP request to an HTTPS server")) // as Go's server writes it
	}
	r.Status = res.StatusCode
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		r.after = time.Duration(seconds) * time.Second
	}
	return r
}

// retry reports whether a call may succeed the next time, and after which pause.
func retry(err error) (after time.Duration, again bool) {
	var r *refusal
	if errors.As(err, &r) {
		switch r.Status {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
			return r.after, true
		}
		return 0, false
	}
	for _, passing := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, passing) {
			return 0, true
		}
	}
	return 0, false
}

// undecided reports whether the call may have had its effect in spite of err.
func undecided(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.Status >= 500
	}
	var dialing *net.OpError
	var untrusted *tls.CertificateVerificationError
	unsent := errors.As(err, &dialing) && dialing.Op == "dial" || errors.As(err, &untrusted)
	return !unsent
}

// explain turns an error into a failure with advice. It quotes neither the token
// nor the request.
func (c *client) explain(ctx context.Context, err error) error {
	f := &failure{status: statusFailed, message: err.Error(), cause: err}
	var r *refusal
	var resolving *net.DNSError
	var untrusted *tls.CertificateVerificationError
	var remote *net.OpError
	var plain tls.RecordHeaderError
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		f.message = "interrupted"
	case errors.As(err, &r):
		c.explainRefusal(f, r)
	case errors.Is(err, syscall.ECONNREFUSED):
		f.message = "connection refused"
		f.hint = fmt.Sprintf("is rescind control running at %s? --control or RESCIND_CONTROL says where it is", c.base)
	case errors.As(err, &resolving):
		f.message = resolving.Error()
		f.hint = "--control or RESCIND_CONTROL says where the control endpoint is"
	case errors.As(err, &untrusted):
		f.message = fmt.Sprintf("the certificate of %s is not trusted: %v", c.base.Host, untrusted.Err)
		f.hint = "--ca-file names the authority that signed it"
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		f.message = fmt.Sprintf("%s refused the connection: %v", c.base.Host, remote.Err)
		f.hint = "if it demands a client certificate, --cert-file and --key-file name one"
	case c.base.Scheme == "https" && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
		f.message = c.base.Host + " closed the connection"
		f.hint = "if it demands a client certificate, --cert-file and --key-file name one"
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		f.message = fmt.Sprintf("%s does not speak TLS", c.base.Host)
		f.hint = fmt.Sprintf("is it http://%s?", c.base.Host)
	case errors.As(err, &timeout) && timeout.Timeout():
		f.message = fmt.Sprintf("%s does not answer", c.base)
	}
	return f
}

func (c *client) explainRefusal(f *failure, r *refusal) {
	for _, e := range r.Errors {
		f.faults = append(f.faults, faultOf(e, e.Line))
	}
	switch {
	case r.secure:
		f.message = fmt.Sprintf("%s speaks TLS", c.base.Host)
		f.hint = fmt.Sprintf("is it https://%s? --ca-file names the authority of its certificate", c.base.Host)
	case r.foreign:
		f.message = fmt.Sprintf("%s answered %d %s, and not as a control endpoint does", c.base, r.Status, http.StatusText(r.Status))
		f.hint = "--control or RESCIND_CONTROL says where it is, with https:// if it has a certificate"
	case r.Status == http.StatusUnauthorized:
		f.hint = "set RESCIND_TOKEN, or name a file with --token-file: the token whose SHA-256 is in control.yaml under admin.tokens"
	case r.Status == http.StatusForbidden:
		f.hint = "control.yaml says under admin.tokens which roles and issuers a token has"
	case r.Status == http.StatusUnprocessableEntity && len(f.faults) > 0: // the faults say more than the detail
		f.message = "the control endpoint refused it, and nothing has changed:"
	case r.Status == http.StatusServiceUnavailable:
		f.hint = "repeating the command is safe"
	}
}

// faultOf returns a fault of a request in words, with its line if there is one.
func faultOf(e control.ProblemError, line int) string {
	text := e.Message
	if e.Member != "" {
		text = printable.Quote(e.Member) + ": " + text
	}
	if line > 0 {
		text = fmt.Sprintf("line %d: %s", line, text)
	}
	return text
}
