package interop

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/jwks"
	"rescind/test/eventually"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// provider is an issuer of other authors: the OpenID provider of zitadel/oidc with
// the storage of its example. The test rotates its keys.
type provider struct {
	*storage.Storage
	url string

	mu      sync.Mutex
	signing signingKey
	keys    []op.Key
	fault   int // the status of every answer; 0: none
}

type signingKey struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
	use     string
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.alg }
func (k signingKey) Key() any                                    { return k.private }

// publicKey is the half of a signingKey that the provider publishes.
type publicKey struct{ signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return k.alg }
func (k publicKey) Key() any                           { return k.private.Public() }
func (k publicKey) Use() string                        { return k.use }

func (p *provider) SigningKey(context.Context) (op.SigningKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signing, nil
}

func (p *provider) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []jose.SignatureAlgorithm{p.signing.alg}, nil
}

func (p *provider) KeySet(context.Context) ([]op.Key, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys, nil
}

// sign makes k the key that signs, and publishes keys.
func (p *provider) sign(k signingKey, keys ...signingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signing, p.keys = k, nil
	for _, k := range keys {
		p.keys = append(p.keys, publicKey{k})
	}
}

func (p *provider) fail(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = status
}

// ClientCredentials makes the access tokens of the example's service user JWTs.
func (p *provider) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	c, err := p.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{c}, err
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func startProvider(t *testing.T, k signingKey) *provider {
	t.Helper()
	p := &provider{}
	p.sign(k, k)
	var handler http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := p.fault
		p.mu.Unlock()
		if fault != 0 {
			w.WriteHeader(fault)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	p.url = s.URL
	p.Storage = storage.NewStorage(storage.NewUserStore(p.url))
	o, err := op.NewProvider(&op.Config{CryptoKey: [32]byte{1}}, p, op.StaticIssuer(p.url), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}
	handler = o
	return p
}

// token returns an access token that the provider's token endpoint issued.
func (p *provider) token(t *testing.T) string {
	t.Helper()
	res, err := http.PostForm(p.url+"/oauth/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"sid1"}, "client_secret": {"verysecret"}, "scope": {"openid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	defer res.Body.Close()
	var granted struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&granted); err != nil || strings.Count(granted.Token, ".") != 2 {
		t.Fatalf("wanted a JWT from the token endpoint, got %s: %+v, %v", res.Status, granted, err)
	}
	return granted.Token
}

// verify finds the key of a token and verifies the token's signature.
func verify(t *testing.T, k *jwks.Keys, token string) error {
	t.Helper()
	parts := strings.Split(token, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	var named struct{ Alg, Kid string }
	if err := json.Unmarshal(header, &named); err != nil {
		t.Fatal(err)
	}
	keys, err := k.Find(t.Context(), named.Kid, named.Alg)
	if err != nil {
		return err
	}
	return jwks.Verify(named.Alg, keys[0], parts[0]+"."+parts[1], signature)
}

// openKeys returns the key set of an issuer that is found by discovery.
func openKeys(t *testing.T, issuer string) *jwks.Keys {
	t.Helper()
	k, err := jwks.Open(jwks.Options{Issuer: issuer, Discovery: true, MinRefreshInterval: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func rsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestZitadelProvider(t *testing.T) {
	first := signingKey{"first", jose.RS256, rsaKey(t), "sig"}
	p := startProvider(t, first)
	k := openKeys(t, p.url)
	old := p.token(t)
	verifies := func(when, name, token string) {
		t.Helper()
		eventually.Succeeds(t, when+", verify the "+name+" token", func() error { return verify(t, k, token) })
	}
	verifies("at first", "old", old)

	// The provider rotates to a key of another type that it never published
	// before. A key for encryption stands first.
	second := signingKey{"second", jose.ES256, ecKey(t), "sig"}
	p.sign(second, signingKey{"enc", jose.RS256, rsaKey(t), "enc"}, first, second)
	fresh := p.token(t)
	verifies("after the rotation", "new", fresh)
	verifies("after the rotation", "old", old)
	if st := k.Status(); st.Keys != 2 {
		t.Errorf("wanted 2 keys, the signing ones alone, got the status %+v", st)
	}

	// The provider fails, and the keys stay.
	for _, status := range []int{500, 503, 404, 204} {
		p.fail(status)
		bogus, answered := fmt.Sprintf("bogus-%d", status), fmt.Sprintf("answered %d", status)
		eventually.True(t, "a refresh was "+answered, func() bool {
			if keys, err := k.Find(t.Context(), bogus, "RS256"); err == nil {
				t.Errorf("wanted no key for the made-up kid %s, got %v", bogus, keys)
			}
			return strings.Contains(k.Status().LastError, answered)
		})
		for name, token := range map[string]string{"new": fresh, "old": old} {
			if err := verify(t, k, token); err != nil {
				t.Errorf("while the provider answers %d: wanted the %s token to verify, got: %v", status, name, err)
			}
		}
	}

	// The provider recovers without its old keys.
	p.fail(0)
	third := signingKey{"third", jose.EdDSA, edKey(t), "sig"}
	p.sign(third, third)
	verifies("after the recovery", "third", p.token(t))
	if verify(t, k, old) == nil {
		t.Error("wanted a refusal of a token whose key is no longer published, and the token verified")
	}
}

// The provider's name is compared byte for byte.
func TestZitadelProviderOfAnotherName(t *testing.T) {
	p := startProvider(t, signingKey{"a", jose.RS256, rsaKey(t), "sig"})
	for _, c := range []struct{ issuer, fault string }{
		{p.url + "/", "byte for byte"},
		{strings.Replace(p.url, "127.0.0.1", "localhost", 1), "byte for byte"},
		{p.url, ""},
	} {
		k := openKeys(t, c.issuer)
		var st jwks.Status
		eventually.True(t, "there was a refresh of "+c.issuer, func() bool {
			st = k.Status()
			return st.LastError != "" || !st.LastSuccess.IsZero()
		})
		if usable := st.Keys > 0; usable != (c.fault == "") || !strings.Contains(st.LastError, c.fault) {
			t.Errorf("%s: wanted the error %q, got the status %+v", c.issuer, c.fault, st)
		}
	}
}
