package ssf_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	"rescind/revocation/intake/intaketest"
	"rescind/revocation/intake/secevent"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssftest"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// header is the Authorization header of pushes.
const header = "Bearer push-secret"

// rig is a transmitter, and a receiver over a real ledger.
type rig struct {
	t        *testing.T
	tx       *ssftest.Transmitter
	keys     *jwks.Keys
	log      *ledgertest.Log
	ledger   *ledger.Ledger
	door     *intake.Door
	receiver *ssf.Receiver
	server   *httptest.Server
}

// setting changes the options of a rig before it starts.
type setting func(*intake.Options, *ssf.Options)

// transmit starts a transmitter with a stream, and follows its keys.
func transmit(t *testing.T) *rig {
	t.Helper()
	tx, err := ssftest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tx.Close)
	keys, err := jwks.Open(jwks.Options{Issuer: tx.Issuer(), URI: tx.KeysURI(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	eventually.Succeeds(t, "the keys are there", func() error {
		if !keys.Status().Usable() {
			return errors.New(keys.Status().LastError)
		}
		return nil
	})
	tx.Open(map[string]any{"method": "urn:ietf:rfc:8936"})
	return &rig{t: t, tx: tx, keys: keys}
}

// receive starts a receiver for the transmitter.
func (r *rig) receive(t *testing.T, settings ...setting) {
	t.Helper()
	r.t, r.log = t, ledgertest.New()
	r.ledger = runLedger(t, r.log)
	sum := sha256.Sum256([]byte(header))
	door := intake.Options{
		Name: "kc", Kind: "ssf", Issuers: []string{r.tx.Issuer()}, Map: intake.Map{intake.NameEmail: jwt.MemberName("email")},
		Authority: ledger.NewAuthority(r.ledger, ledger.AuthorityOptions{}), Shelf: &intaketest.Shelf{},
	}
	o := ssf.Options{
		Signer: &intake.Signer{Issuer: r.tx.Issuer(), Algorithms: []string{"ES256"}, Keys: r.keys},
		Rules:  secevent.Rules{Strict: true, Audiences: []string{"ssf-rx/" + r.tx.StreamID()}}, Stream: r.tx.StreamID(), Authorization: &sum,
	}
	for _, s := range settings {
		s(&door, &o)
	}
	r.door = intake.New(door)
	o.Door = r.door
	r.receiver = ssf.New(o)
}

// start starts a transmitter that pushes to a receiver.
func start(t *testing.T, settings ...setting) *rig {
	t.Helper()
	r := transmit(t)
	r.receive(t, settings...)
	r.server = httptest.NewServer(intake.NewPush(map[string]http.Handler{"kc": r.receiver}, slog.New(slog.DiscardHandler)))
	t.Cleanup(r.server.Close)
	r.tx.Deliver(map[string]any{"method": "urn:ietf:rfc:8935", "endpoint_url": r.server.URL + "/intake/kc/events", "authorization_header": header})
	return r
}

func runLedger(t *testing.T, log *ledgertest.Log) *ledger.Ledger {
	t.Helper()
	l := ledger.New(log, ledger.Options{Retention: 720 * time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	eventually.Succeeds(t, "the ledger becomes ready", l.Ready)
	return l
}

// push pushes an event, and returns the answer.
func (r *rig) push(event string, members map[string]any, subject any, claims map[string]any) *ssftest.Answer {
	r.t.Helper()
	_, token := r.tx.Mint(event, members, subject, claims)
	return r.pushToken(token)
}

func (r *rig) pushToken(token string) *ssftest.Answer {
	r.t.Helper()
	got, err := r.tx.Push(token)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// inForce returns the revocations in force, sorted: "sub=alice" with " before T"
// in Unix seconds where there is a cut-off, and " block" where there is none and
// the target may log in again.
func (r *rig) inForce() []string {
	r.t.Helper()
	var texts []string
	active := true
	items, _ := r.ledger.List(ledger.Query{Active: &active, Limit: 1000})
	for _, item := range items {
		var b strings.Builder
		for _, c := range item.Target.Claims {
			fmt.Fprintf(&b, "%s=%s ", c.Name, c.Value)
		}
		if item.Before != 0 {
			fmt.Fprintf(&b, "before %d", item.Before.Time().Unix())
		} else if item.Block {
			b.WriteString("block")
		}
		texts = append(texts, strings.TrimSpace(b.String()))
	}
	slices.Sort(texts)
	return texts
}

func (r *rig) count(s intake.State) uint64 { return r.door.Status().Counts[string(s)] }
