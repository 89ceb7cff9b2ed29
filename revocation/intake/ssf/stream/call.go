package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"rescind/jwks/fetch"
	"rescind/revocation/printable"
)

// maxAnswer is the largest answer that is read, in bytes.
const maxAnswer = 4 << 20

// StatusError is an answer with an error status.
type StatusError struct {
	URL        string
	Code       int
	RetryAfter time.Duration // 0: the answer has no Retry-After
	Text       string        // the beginning of the body, printable
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// call makes a request with the credential, and reads the answer into out, unless
// out is nil or the answer is empty. An access token that the server refuses is
// fetched anew, once.
func (t *Transmitter) call(ctx context.Context, method, to string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return t.patientCall(ctx, method, to, body, out)
}

// patientCall makes the request like call, for as long as ctx lasts.
func (t *Transmitter) patientCall(ctx context.Context, method, to string, body, out any) error {
	err := t.once(ctx, method, to, body, out)
	if statusOf(err) == http.StatusUnauthorized && t.token.forget() {
		err = t.once(ctx, method, to, body, out)
	}
	return err
}

func (t *Transmitter) once(ctx context.Context, method, to string, body, out any) error {
	u, err := t.o.permitted(to)
	if err != nil {
		return err
	}
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := t.authorize(ctx, req); err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "rescind")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := t.client(u).Do(req)
	if err != nil {
		return unwrapped(to, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	return read(to, res, out)
}

func (t *Transmitter) authorize(ctx context.Context, req *http.Request) error {
	token, err := t.token.now(ctx)
	if err != nil {
		return fmt.Errorf("the credential for the transmitter: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// client returns the client for a URL. The hosts that the operator named may be
// private, and a proxy that the operator set is trusted.
func (t *Transmitter) client(u *url.URL) *http.Client {
	if t.hosts[hostOf(u)] {
		return t.own
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); proxy != nil && err == nil {
		return t.own
	}
	return t.other
}

func read(from string, res *http.Response, out any) error {
	text, err := fetch.Limited(res.Body, maxAnswer)
	if res.StatusCode/100 != 2 {
		seconds, _ := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 31)
		return &StatusError{from, res.StatusCode, time.Duration(seconds) * time.Second, printable.Clean(string(text[:min(len(text), 1024)]), 256)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if out == nil || len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if err := decode(text, out); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

// decode reads JSON. It refuses duplicate members and invalid UTF-8.
func decode(text []byte, out any) error {
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer is not the JSON that was expected: %w", err)
	}
	return nil
}

// unwrapped returns err with the URL as it was given.
func unwrapped(to string, err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	return fmt.Errorf("%s: %w", to, err)
}
