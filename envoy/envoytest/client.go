package envoytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Answer is an HTTP answer to a client.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Took   time.Duration
}

// Seen returns the request that the upstream received. It fails if no request
// reached the upstream.
func (a Answer) Seen() (Seen, error) {
	var seen Seen
	return seen, json.Unmarshal(a.Body, &seen)
}

// Get sends a request through the gateway, with this bearer token if it is not
// empty, and with further headers: names and values in turn.
func (s *Stack) Get(ctx context.Context, path, token string, headers ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.GatewayURL+path, nil)
	if err != nil {
		return Answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1]) // in the caller's spelling
	}
	return s.do(req)
}

// AdminAt calls the admin API of one control node as an operator, as
// [Stack.Admin] does.
func (s *Stack) AdminAt(ctx context.Context, node int, method, path string, body, into any) (Answer, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.ControlURLs[node]+path, sent)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	a, err := s.do(req)
	if err == nil && into != nil && a.Status < 300 {
		err = json.Unmarshal(a.Body, into)
	}
	return a, err
}

func (s *Stack) do(req *http.Request) (Answer, error) {
	begun := time.Now()
	res, err := s.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", req.Method, req.URL, err)
	}
	return Answer{res.StatusCode, res.Header, body, time.Since(begun)}, nil
}
