package jwks

import (
	"context"
	"crypto"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// An issuer that nobody here wrote: the OpenID provider of zitadel/oidc with
// the storage of its example, whose keys we rotate.

// provider is that storage with the keys taken out of it.
type provider struct {
	*storage.Storage
	url string

	mu      sync.Mutex
	signing signingKey
	keys    []op.Key
	fault   int // status that every answer has; 0: none
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

// publicKey is a signingKey as the provider publishes it.
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

// sign makes k the key that signs; the published ones are keys.
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

// token is an access token of the provider, by its token endpoint.
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
		t.Fatalf("%s: no JWT: %+v, %v", res.Status, granted, err)
	}
	return granted.Token
}

// verified finds the key of a token and verifies its signature.
func verified(t *testing.T, k *Keys, token string) error {
	t.Helper()
	parts := strings.Split(token, ".")
	var header struct{ Alg, Kid string }
	if err := json.Unmarshal(must(b64.DecodeString(parts[0])), &header); err != nil {
		t.Fatal(err)
	}
	keys, err := k.Find(background, header.Kid, header.Alg)
	if err != nil {
		return err
	}
	return Verify(header.Alg, keys[0], parts[0]+"."+parts[1], must(b64.DecodeString(parts[2])))
}

// soon waits until done, which no test hurries: machines are slow at times.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("not within 5 s: %s", what)
}

func TestZitadelProvider(t *testing.T) {
	first := signingKey{"first", jose.RS256, rsaKey(), "sig"}
	p := startProvider(t, first)
	k := open(t, Options{Issuer: p.url, Discovery: true, MinRefreshInterval: time.Millisecond})
	old := p.token(t)
	soon(t, "the first token", func() bool { return verified(t, k, old) == nil })

	// It rotates, without having published the key before, to another type, and
	// with a key for encryption that stands first.
	second := signingKey{"second", jose.ES256, p256(), "sig"}
	p.sign(second, signingKey{"enc", jose.RS256, rsaKey(), "enc"}, first, second)
	fresh := p.token(t)
	for what, token := range map[string]string{"new": fresh, "old": old} {
		soon(t, "after the rotation, the "+what+" token", func() bool { return verified(t, k, token) == nil })
	}
	if st := k.Status(); st.Keys != 2 {
		t.Errorf("status %+v", st)
	}

	// It fails, and nothing changes.
	for _, status := range []int{500, 503, 404, 204} {
		p.fail(status)
		soon(t, numbered("a refresh that was answered ", status), func() bool {
			if keys, err := find(k, numbered("bogus-", status), "RS256"); err == nil {
				t.Errorf("%d keys of a kid that is bogus", keys)
			}
			return strings.Contains(k.Status().LastError, numbered("answered ", status))
		})
		for what, token := range map[string]string{"new": fresh, "old": old} {
			if err := verified(t, k, token); err != nil {
				t.Errorf("answering %d, the %s token: %v", status, what, err)
			}
		}
	}

	// It recovers without its old key.
	p.fail(0)
	third := signingKey{"third", jose.EdDSA, edKey(), "sig"}
	p.sign(third, third)
	last := p.token(t)
	soon(t, "the token of the third key", func() bool { return verified(t, k, last) == nil })
	if verified(t, k, old) == nil {
		t.Error("a token of a key that is not published any more is accepted")
	}
}

// It is not the issuer that is configured.
func TestZitadelProviderOfAnotherName(t *testing.T) {
	p := startProvider(t, signingKey{"a", jose.RS256, rsaKey(), "sig"})
	wantFault(t, fetched(t, Options{Issuer: p.url + "/", Discovery: true}), "byte for byte")
	wantFault(t, fetched(t, Options{Issuer: strings.Replace(p.url, "127.0.0.1", "localhost", 1), Discovery: true}), "byte for byte")
	wantFault(t, fetched(t, Options{Issuer: p.url, Discovery: true}), "")
}
