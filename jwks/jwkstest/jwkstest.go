// Package jwkstest runs a token issuer on loopback. Its clients see a real one: a
// discovery document, a JWK Set, signing keys that rotate, a token endpoint with
// sessions and rotating refresh tokens, revocation after RFC 7009, and back-channel
// logouts. The demo logs its users in with it, and tests make it misbehave.
//
// It is not an identity provider. Every caller gets a token for every name and
// can rotate the keys. So it listens on loopback.
//
// # Ownership
//
// An [Issuer] owns its listener, its server and every key that it has made. All
// its methods are safe for concurrent use. mu is held over map operations, not
// over the making of a key. A request reads its [Fault] once.
//
//	GET  /.well-known/openid-configuration
//	GET  /jwks
//	POST /token    grant_type=password&username=alice, or grant_type=refresh_token&refresh_token=…
//	POST /revoke   token=…
//	POST /rotate   a new signing key beside the old ones
//	POST /retire   the old ones unpublished
//	GET  /statuslists/1
//	POST /disable  username=alice: no more sessions, and a back-channel logout
package jwkstest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure an [Issuer]. The zero value works.
type Options struct {
	Algorithm string        // RS256, which is the default, PS256, ES256 or EdDSA
	Addr      string        // default: any free port of 127.0.0.1
	Lifetime  time.Duration // of access tokens; default 5m
	Audience  string        // aud; default "api"
}

// Issuer is a running issuer.
type Issuer struct {
	o      Options
	url    string
	server *http.Server
	done   chan struct{}
	stop   chan struct{} // closed by Close to end delays
	once   sync.Once

	fetches, discoveries, statusFetches atomic.Int64

	mu             sync.Mutex
	keys           []key // all are published, and the last one signs
	keysFault      Fault
	discoveryFault Fault
	statusFault    Fault
	statuses       [places]byte
	sessions       map[string]session // by sid
	refresh        map[string]string  // sid by refresh token, also by used ones
	disabled       map[string]bool    // by user
	logoutURI      string             // empty: logouts are not sent
}

// Start runs an issuer until Close.
func Start(o Options) (*Issuer, error) {
	o.Algorithm = cmp.Or(o.Algorithm, "RS256")
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:0")
	o.Lifetime = cmp.Or(o.Lifetime, 5*time.Minute)
	o.Audience = cmp.Or(o.Audience, "api")
	i := &Issuer{o: o, done: make(chan struct{}), stop: make(chan struct{}), sessions: map[string]session{}, refresh: map[string]string{}, disabled: map[string]bool{}}
	if err := i.Rotate(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", o.Addr) //nolint:noctx // loopback
	if err != nil {
		return nil, fmt.Errorf("test issuer: %w", err)
	}
	i.url = "http://" + l.Addr().String()
	i.server = &http.Server{Handler: i.handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(i.done)
		if err := i.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // a loopback listener of this process does not fail
		}
	}()
	return i, nil
}

// URL returns the identifier of the issuer, which is also its address.
func (i *Issuer) URL() string { return i.url }

// Close ends the issuer at once and waits until it has ended. Mint still works.
func (i *Issuer) Close() {
	i.once.Do(func() { close(i.stop) })
	_ = i.server.Close()
	<-i.done
}

// Fetches returns the number of requests for the JWK Set, failed ones too.
func (i *Issuer) Fetches() int { return int(i.fetches.Load()) }

// Discoveries returns the number of requests for the discovery document.
func (i *Issuer) Discoveries() int { return int(i.discoveries.Load()) }

// Rotate makes a new signing key and publishes it at once, beside the old ones.
func (i *Issuer) Rotate() error {
	k, err := newKey(i.o.Algorithm)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k)
	return nil
}

// Retire stops publishing every key but the one that signs.
func (i *Issuer) Retire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[len(i.keys)-1:]
}

// KeyID returns the kid of the key that signs.
func (i *Issuer) KeyID() string { return i.signing().id }

func (i *Issuer) signing() key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// Mint returns a token signed with the current key. The given claims replace
// those of an ordinary access token. nil removes a claim.
func (i *Issuer) Mint(claims map[string]any) (string, error) { return i.MintWith(nil, claims) }

// MintWith returns a token like Mint and replaces members of the header too. The
// signature is made with the issuer's algorithm, also if the header names another.
func (i *Issuer) MintWith(header, claims map[string]any) (string, error) {
	k := i.signing()
	now := time.Now()
	return k.sign(
		changed(map[string]any{"typ": "at+jwt", "kid": k.id, "alg": i.o.Algorithm}, header),
		changed(map[string]any{
			"iss":       i.url,
			"sub":       "alice",
			"aud":       i.o.Audience,
			"jti":       rand.Text(),
			"sid":       rand.Text(),
			"iat":       now.Unix(),
			"exp":       now.Add(i.o.Lifetime).Unix(),
			"scope":     defaultScope,
			"client_id": defaultClient,
		}, claims))
}

const (
	defaultScope  = "openid profile"
	defaultClient = "demo"
)

func changed(base, changes map[string]any) map[string]any {
	for name, value := range changes {
		if value == nil {
			delete(base, name)
		} else {
			base[name] = value
		}
	}
	return base
}
