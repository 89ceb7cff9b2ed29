package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"runtime"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
)

// Kinds of traffic.
const (
	seen     = "seen"
	unseen   = "never seen"
	revoked  = "revoked"
	oneNew   = "one new in twenty"
	fewSeen  = 100 // tokens that are seen
	fewEnded = 200 // tokens that are revoked
)

var kinds = []string{seen, unseen, revoked, oneNew}

var algorithms = []string{"RS256", "ES256"}

const issuerName = "https://bench.example/"

// issuer signs tokens. Its keys are in a file.
type issuer struct {
	file string
	keys map[string]crypto.Signer // by algorithm, which is also the kid

	signed map[string]tokens // by algorithm
}

func newIssuer(algorithms []string, file string) (*issuer, error) {
	i := &issuer{file: file, keys: map[string]crypto.Signer{}, signed: map[string]tokens{}}
	b64 := base64.RawURLEncoding.EncodeToString
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	for _, alg := range algorithms {
		switch alg {
		case "RS256":
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				return nil, err
			}
			i.keys[alg] = key
			set.Keys = append(set.Keys, map[string]string{"kty": "RSA", "kid": alg, "alg": alg, "use": "sig", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())})
		case "ES256":
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return nil, err
			}
			point, err := key.PublicKey.Bytes()
			if err != nil {
				return nil, err
			}
			i.keys[alg] = key
			set.Keys = append(set.Keys, map[string]string{"kty": "EC", "crv": "P-256", "kid": alg, "alg": alg, "use": "sig", "x": b64(point[1:33]), "y": b64(point[33:])})
		default:
			return nil, fmt.Errorf("-algorithms: %q is not RS256 or ES256", alg)
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	return i, os.WriteFile(file, text, 0o600)
}

// token returns a token like those of an identity provider, some 600 to 800 bytes.
func (i *issuer) token(alg, jti string) (string, error) {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{
		"iss": issuerName, "aud": "api", "sub": "user-" + jti, "jti": jti, "sid": "session-" + jti, "iat": now.Unix(), "exp": now.Add(6 * time.Hour).Unix(),
		"scope": "openid profile email", "azp": "web", "client_id": "web", "email": jti + "@example.com", "realm_access": map[string]any{"roles": []string{"user", "reader"}},
	})
	t.Header["kid"] = alg
	return t.SignedString(i.keys[alg])
}

// endedID returns the jti of a revoked token.
func endedID(alg string, n int) string { return fmt.Sprintf("ended-%s-%d", alg, n) }

// tokens are the tokens of one algorithm.
type tokens struct{ few, many, ended []string }

// tokens signs the tokens of one algorithm, once. unseen is the number of those that are
// never seen.
func (i *issuer) tokens(alg string, unseen int) (t tokens, err error) {
	if t, ok := i.signed[alg]; ok && len(t.many) >= unseen {
		return t, nil
	}
	note("signing %d tokens with %s", unseen, alg)
	sign := func(n int, id func(int) string) []string {
		out := make([]string, n)
		var all errgroup.Group
		all.SetLimit(runtime.NumCPU())
		for at := range n {
			all.Go(func() (err error) {
				out[at], err = i.token(alg, id(at))
				return err
			})
		}
		err = errors.Join(err, all.Wait())
		return out
	}
	t.few = sign(fewSeen, func(n int) string { return fmt.Sprintf("seen-%s-%d", alg, n) })
	t.ended = sign(fewEnded, func(n int) string { return endedID(alg, n) })
	t.many = sign(unseen, func(n int) string { return fmt.Sprintf("unseen-%s-%d", alg, n) })
	i.signed[alg] = t
	return t, err
}

// traffic are the requests with the tokens of one algorithm.
type traffic struct{ few, many, ended [][]byte }

// traffic encodes a request with each token.
func (t tokens) traffic(encode func(token string) ([]byte, error)) (requests traffic, err error) {
	all := func(tokens []string) [][]byte {
		out := make([][]byte, len(tokens))
		for n, token := range tokens {
			request, fault := encode(token)
			out[n], err = request, errors.Join(err, fault)
		}
		return out
	}
	return traffic{all(t.few), all(t.many), all(t.ended)}, err
}

// traffic signs the tokens of one algorithm, and encodes a Check with each.
func (i *issuer) traffic(alg string, unseen int) (*traffic, error) {
	signed, err := i.tokens(alg, unseen)
	if err != nil {
		return nil, err
	}
	requests, err := signed.traffic(message)
	return &requests, err
}

// next returns the request of this number of one kind of traffic to s. The tokens that
// are never seen come in turn, for each server apart.
func (t *traffic) next(kind string, s *server, n int) []byte {
	switch {
	case kind == unseen, kind == oneNew && n%20 == 0:
		return t.many[int(s.unseen.Add(1))%len(t.many)]
	case kind == revoked:
		return t.ended[n%len(t.ended)]
	}
	return t.few[n%len(t.few)]
}

// message returns the gRPC message of a Check about the request of a browser.
func message(token string) ([]byte, error) {
	address := func(ip string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}}}
	}
	headers := maps.Clone(browserHeaders)
	maps.Copy(headers, map[string]string{
		":authority": "app.example.com", ":method": "GET", ":path": "/orders/1234?page=2", ":scheme": "https",
		"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https", "x-request-id": "2f1d7c0e-3c11-4a6e-9d6f-0d3a1c4a5b6c",
		"authorization": "Bearer " + token,
	})
	check := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: address("10.1.2.3", 50123), Destination: address("10.0.0.7", 8443),
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "7777777777777777777", Method: "GET", Path: "/orders/1234?page=2", Host: "app.example.com", Scheme: "https", Protocol: "HTTP/2",
			Headers: headers,
		}},
	}}
	wire, err := proto.Marshal(check)
	if err != nil {
		return nil, err
	}
	n := len(wire)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, wire...), nil
}
