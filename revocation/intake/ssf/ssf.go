// Package ssf receives the events of the Shared Signals Framework 1.0 (SSF), with
// the event types of CAEP and RISC. A transmitter pushes its events (RFC 8935),
// or the receiver polls for them (RFC 8936).
//
// # An event
//
// [Receiver] verifies a token, reads its event, and finds the action of the event
// in its [Policy] and the tokens of its subject by its [Subjects]. The acts go to
// the [intake.Door], which knows what the transmitter may do. A token is answered,
// or acknowledged, once the door has made its effects durable. A token that the
// transmitter should send again is not.
//
// # Trust
//
// The transmitter is known by its keys. Its word is taken about the issuers of its
// entry in the configuration, and about no others. An event that it may not send
// is acknowledged, so that it is not sent for ever, and is in the audit as
// refused. So is an event whose subject names no tokens here.
//
// # Repetition
//
// Transmitters repeat tokens, also days later. An event reaches tokens of before
// the event alone, so a repetition does nothing. That is why no list of tokens is
// kept.
//
// # The stream
//
// A stream that is paused, disabled or deleted at the transmitter looks like one
// without events. So the receiver asks for the status of the stream, and for
// verification events, and reports silence.
package ssf

import (
	"context"
	"errors"
	"slices"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
)

// Options configure a [Receiver].
type Options struct {
	Door     *intake.Door
	Signer   *intake.Signer // the transmitter
	Rules    secevent.Rules
	Events   map[string]Action // by the URI of the type; others have the action of DefaultPolicy
	Subjects Subjects
	Stream   string // the ID of the stream; empty: not known
	// Authorization is the SHA-256 of the Authorization header of each push. Nil:
	// the signature alone tells the transmitter.
	Authorization *[32]byte
}

// Receiver takes the events of one transmitter. It is safe for concurrent use.
type Receiver struct {
	Options
	policy Policy
	health health
}

// New returns a receiver.
func New(o Options) *Receiver {
	r := &Receiver{Options: o, policy: DefaultPolicy(slices.Contains(o.Door.May, intake.Block)).With(o.Events)}
	r.Subjects.issuers, r.Subjects.claims = o.Door.Issuers, o.Door.Map
	return r
}

// take carries a token out, and returns once its effects are durable. id is the
// jti that the transmitter gives beside the token; "" is none. The error is a
// [*secevent.Fault] if the transmitter must not send the token again, and another
// error if it must.
func (r *Receiver) take(ctx context.Context, raw, id string) error {
	token, err := r.Signer.Verify(ctx, raw)
	if err != nil {
		return refused(err)
	}
	set, err := secevent.Read(token, r.Rules)
	switch {
	case err != nil:
		return err
	case id != "" && id != set.ID:
		return &secevent.Fault{Code: secevent.InvalidRequest, Description: "jti is not the name under which the token was sent"}
	}
	return r.carryOut(ctx, set)
}

func (r *Receiver) carryOut(ctx context.Context, set *secevent.SET) error {
	if len(set.Events) == 1 && isOfStream(set.Events[0].Type) {
		return r.ofStream(ctx, &set.Events[0])
	}
	events, err := r.events(set)
	for i := range events {
		if _, err = r.Door.Take(ctx, &events[i]); err != nil {
			break
		}
	}
	return err
}

// refused returns the fault of a token that is not the transmitter's. It returns
// err if the keys of the transmitter are not there.
func refused(err error) error {
	var flaw jwt.Flaw
	switch {
	case errors.As(err, &flaw):
		return &secevent.Fault{Code: secevent.InvalidRequest, Description: flaw.Error()}
	case errors.Is(err, intake.ErrIssuer):
		return &secevent.Fault{Code: secevent.InvalidIssuer, Description: "iss is not the transmitter of this receiver"}
	case errors.Is(err, intake.ErrAlgorithm):
		return &secevent.Fault{Code: secevent.InvalidKey, Description: "the algorithm of the signature is not accepted"}
	case errors.Is(err, intake.ErrKey):
		return &secevent.Fault{Code: secevent.InvalidKey, Description: "no key of the transmitter has made the signature"}
	}
	return err
}
