package statuslist

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rescind/jwks"
	"rescind/jwks/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	idp    = "https://idp.example/"
	folder = "https://idp.example/lists/"
	first  = folder + "1"
	day    = 24 * time.Hour
)

var b64 = base64.RawURLEncoding

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keyOf returns a private key that belongs to kid, always the same one.
func keyOf(kid string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, kid)
	return ed25519.NewKeyFromSeed(seed)
}

// sign returns a token of exactly these texts, signed with the key of kid.
func sign(kid, header, payload string) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(ed25519.Sign(keyOf(kid), []byte(signed)))
}

// keysOf returns the keys of these kids, from a file that publish rewrites.
func keysOf(t testing.TB, kids ...string) (k *jwks.Keys, publish func(kids ...string)) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	publish = func(kids ...string) {
		keys := []map[string]any{}
		for _, kid := range kids {
			keys = append(keys, map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64.EncodeToString(keyOf(kid).Public().(ed25519.PublicKey))})
		}
		if err := os.WriteFile(path, must(json.Marshal(map[string]any{"keys": keys})), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	publish(kids...)
	return must(jwks.Open(jwks.Options{Issuer: idp, File: path, RefreshInterval: day, MinRefreshInterval: day, Logger: slog.New(slog.DiscardHandler)})), publish
}

// deflated returns statuses as lst has them. It remembers them, because a writer of
// zlib costs more than all else in these tests.
func deflated(statuses []byte) string {
	if text, known := deflatedBefore.Load(string(statuses)); known {
		return text.(string)
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = z.Write(statuses)
	_ = z.Close()
	text := b64.EncodeToString(b.Bytes())
	deflatedBefore.Store(string(statuses), text)
	return text
}

var deflatedBefore sync.Map

// token returns a good Status List Token of uri, issued now, whose statuses have
// one bit. changes replace claims, and nil removes one.
func token(uri string, statuses []byte, changes map[string]any) string {
	claims := map[string]any{"sub": uri, "iat": time.Now().Unix(), "status_list": map[string]any{"bits": 1, "lst": deflated(statuses)}}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return sign("a", `{"alg":"EdDSA","kid":"a","typ":"statuslist+jwt"}`, string(must(json.Marshal(claims))))
}

// provider is the server of the lists, without a network.
type provider struct {
	mu      sync.Mutex
	answers map[string]func() (int, string) // by URI
	asked   map[string][]time.Time
	under   int // requests under way
	most    int // the most that ever were
	slow    time.Duration
	headers http.Header // of the answers
}

func newProvider() *provider {
	return &provider{answers: map[string]func() (int, string){}, asked: map[string][]time.Time{}, headers: http.Header{}}
}

// says makes the provider answer 200 with a token.
func (p *provider) says(uri, text string) { p.answer(uri, http.StatusOK, text) }

func (p *provider) answer(uri string, code int, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[uri] = func() (int, string) { return code, text }
}

// heads sets a header of all answers.
func (p *provider) heads(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.headers.Set(name, value)
}

func (p *provider) makes(uri string, text func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[uri] = func() (int, string) { return http.StatusOK, text() }
}

func (p *provider) times(uri string) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[uri]
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	uri := r.URL.String()
	p.asked[uri] = append(p.asked[uri], time.Now())
	answer, slow, headers := p.answers[uri], p.slow, p.headers.Clone()
	p.under++
	p.most = max(p.most, p.under)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.under--
	}()
	select {
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	case <-time.After(slow):
	}
	code, text := http.StatusNotFound, "no such list"
	if answer != nil {
		code, text = answer()
	}
	return &http.Response{StatusCode: code, Header: headers, Body: io.NopCloser(bytes.NewReader([]byte(text))), Request: r}, nil
}

// options returns the options of lists in folder that p serves.
func (p *provider) options(k *jwks.Keys) Options {
	return Options{Issuer: idp, Keys: k, URIs: []string{folder}, Leeway: 30 * time.Second, Requests: fetch.Options{Transport: p}, Logger: slog.New(slog.DiscardHandler)}
}

// status returns the status at a place of the list uri.
func status(l *Lists, uri string, idx uint64) (Status, error) {
	return l.Status(Reference{uri, idx}, time.Now())
}

func wantStatus(t *testing.T, l *Lists, uri string, idx uint64, want Status, wantErr error) {
	t.Helper()
	if got, err := status(l, uri, idx); !errors.Is(err, wantErr) || err == nil && got != want || err != nil && got == Valid {
		t.Errorf("%s at %d, %s: got status %d and error %v, want %d and %v", uri, idx, time.Now().UTC().Format(time.TimeOnly), got, err, want, wantErr)
	}
}
