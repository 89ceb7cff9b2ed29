package jwks

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"rescind/test/eventually"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const idp = "https://idp.example/"

var b64 = base64.RawURLEncoding

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Keys to sign with, made once.
var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	p256   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	edKey  = sync.OnceValue(newEd25519)
)

func newEd25519() ed25519.PrivateKey {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return private
}

// jwk returns a JWK of pub. changes replace members, and nil removes one.
func jwk(pub crypto.PublicKey, changes map[string]any) map[string]any {
	m := map[string]any{}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64.EncodeToString(pub.N.Bytes()), b64.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	case *ecdsa.PublicKey:
		point := must(pub.Bytes())
		half := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", pub.Params().Name, b64.EncodeToString(point[1:1+half]), b64.EncodeToString(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64.EncodeToString(pub)
	}
	for name, v := range changes {
		if v == nil {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	return m
}

// kid returns an Ed25519 JWK of this kid, always the same one.
func kid(id string) map[string]any {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, id)
	return jwk(ed25519.NewKeyFromSeed(seed).Public(), map[string]any{"kid": id})
}

func document(keys ...map[string]any) string {
	if keys == nil {
		keys = []map[string]any{}
	}
	return string(must(json.Marshal(map[string]any{"keys": keys})))
}

// answer is the answer of an origin to a request.
type answer struct {
	status int // 0: 200
	body   string
	err    error
	delay  time.Duration

	retryAfter string
}

// origin is an issuer's server for tests with a clock of their own. It is a
// transport without a network.
type origin struct {
	mu       sync.Mutex
	answers  map[string]answer // by URL; "" for any other
	requests []time.Time
}

func originOf(body string) *origin { return &origin{answers: map[string]answer{"": {body: body}}} }

func (o *origin) set(url string, a answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[url] = a
}

func (o *origin) publish(keys ...map[string]any) { o.set("", answer{body: document(keys...)}) }

func (o *origin) asked() []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]time.Time{}, o.requests...)
}

// RoundTrip returns the answer that is set at the end of its delay.
func (o *origin) RoundTrip(req *http.Request) (*http.Response, error) {
	at := func() answer {
		o.mu.Lock()
		defer o.mu.Unlock()
		a, ok := o.answers[req.URL.String()]
		if !ok {
			a = o.answers[""]
		}
		return a
	}
	o.mu.Lock()
	o.requests = append(o.requests, time.Now())
	o.mu.Unlock()
	select {
	case <-time.After(at().delay):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	a := at()
	if a.err != nil {
		return nil, a.err
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return &http.Response{StatusCode: a.status, Header: http.Header{"Retry-After": {a.retryAfter}}, Body: io.NopCloser(bytes.NewReader([]byte(a.body))), Request: req}, nil
}

var (
	background = context.Background()
	timeZero   = time.Time{}
	quiet      = slog.New(slog.DiscardHandler)
)

var errDown = errors.New("the issuer is down")

// options returns the options of an issuer with the server o.
func (o *origin) options() Options {
	return Options{Issuer: idp, URI: "https://idp.example/jwks", Logger: slog.New(slog.DiscardHandler), transport: o}
}

// open returns keys that are closed when t ends. In a synctest bubble the test
// closes them itself.
func open(t testing.TB, o Options) *Keys {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// find returns the number of keys found.
func find(k *Keys, kid, alg string) (int, error) {
	keys, err := k.Find(background, kid, alg)
	return len(keys), err
}

// settled returns the status after the first refresh, on the real clock.
func settled(t testing.TB, k *Keys) Status {
	t.Helper()
	var st Status
	eventually.True(t, "there was a refresh", func() bool {
		st = k.Status()
		return st.LastError != "" || !st.FromDisk && !st.LastSuccess.IsZero()
	})
	return st
}

func with(base map[string]any, changes map[string]any) map[string]any {
	m := maps.Clone(base)
	for name, v := range changes {
		if v == nil {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	return m
}

func numbered(prefix string, n int) string { return prefix + strconv.Itoa(n) }
