package envoy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"rescind/authz"
)

// Question is a request that a replica is asked about.
type Question struct {
	Token   string         // raw; empty: a request without a token
	Place   authz.Place    // that holds the token; zero: the Authorization header
	Policy  *string        // nil: the route names no policy
	Headers []authz.Header // further headers
}

// Outcome is the answer of a replica, as Envoy acts on it.
type Outcome struct {
	Allowed bool           `json:"allowed"`
	Code    string         `json:"code"`              // name of the gRPC code
	Status  int            `json:"status,omitempty"`  // HTTP status of a denial
	Headers []authz.Header `json:"headers,omitempty"` // set on the request if it is allowed, else on the response
	Removed []string       `json:"removed,omitempty"` // removed from the request
	Body    string         `json:"body,omitempty"`    // body of a denial
	// Metadata is the dynamic metadata: decision_id, decision, reason, policy,
	// issuer, subject, token_id, revision.
	Metadata map[string]any `json:"metadata"`
}

// Reason returns the reason of the decision.
func (o *Outcome) Reason() string {
	reason, _ := o.Metadata["reason"].(string)
	return reason
}

// Check asks the replica at addr (host:port, or unix:///path) as an Envoy with
// the shipped configuration does. config is nil for plaintext.
func Check(ctx context.Context, addr string, config *tls.Config, q Question) (_ *Outcome, err error) {
	c, err := Dial(addr, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Check(ctx, q)
}

// Client asks a replica over one connection.
type Client struct {
	addr string
	conn *grpc.ClientConn
}

// Dial returns a client for the replica at addr, as [Check] takes it. It does not
// connect yet.
func Dial(addr string, config *tls.Config) (*Client, error) {
	target := addr
	if !strings.HasPrefix(addr, "unix:") {
		target = "passthrough:///" + addr
	}
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, fmt.Errorf("%s is not the address of a replica; write host:port or unix:///path: %w", addr, err)
	}
	return &Client{addr, conn}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Check asks the replica about q.
func (c *Client) Check(ctx context.Context, q Question) (*Outcome, error) {
	answer, err := authv3.NewAuthorizationClient(c.conn).Check(ctx, q.request())
	if err != nil {
		return nil, fmt.Errorf("asking the replica at %s: %w", c.addr, err)
	}
	return outcome(answer), nil
}

// request returns the CheckRequest for q.
func (q Question) request() *authv3.CheckRequest {
	path, held := "/", []authz.Header(nil)
	if q.Token != "" {
		if h, query := q.Place.Put(q.Token); query != "" {
			path += "?" + query
		} else {
			held = []authz.Header{h}
		}
	}
	headers := append([]authz.Header{{Name: ":method", Value: "GET"}, {Name: ":path", Value: path}, {Name: ":authority", Value: "localhost"}}, held...)
	raw := &corev3.HeaderMap{}
	for _, h := range append(headers, q.Headers...) {
		raw.Headers = append(raw.Headers, &corev3.HeaderValue{Key: strings.ToLower(h.Name), RawValue: []byte(h.Value)})
	}
	attributes := &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: path, Host: "localhost", Protocol: "HTTP/1.1", HeaderMap: raw},
	}}
	if q.Policy != nil {
		attributes.ContextExtensions = map[string]string{policyExtension: *q.Policy}
	}
	return &authv3.CheckRequest{Attributes: attributes}
}

// outcome returns the meaning of an answer for Envoy. The code alone decides.
func outcome(answer *authv3.CheckResponse) *Outcome {
	code := codes.Code(answer.GetStatus().GetCode())
	o := &Outcome{Allowed: code == codes.OK, Code: code.String(), Metadata: answer.GetDynamicMetadata().AsMap()}
	options := answer.GetDeniedResponse().GetHeaders()
	if o.Allowed {
		options = answer.GetOkResponse().GetHeaders()
		o.Removed = answer.GetOkResponse().GetHeadersToRemove()
	} else {
		o.Status = int(answer.GetDeniedResponse().GetStatus().GetCode())
		o.Body = answer.GetDeniedResponse().GetBody()
	}
	for _, h := range options {
		o.Headers = append(o.Headers, authz.Header{Name: h.GetHeader().GetKey(), Value: h.GetHeader().GetValue()})
	}
	return o
}
