package ssf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
	"rescind/revocation/intake/ssf/stream"
	"rescind/revocation/printable"
)

func isOfStream(uri string) bool {
	return uri == verification || uri == riscVerification || uri == streamUpdated
}

// ofStream takes an event about the stream itself.
func (r *Receiver) ofStream(ctx context.Context, e *secevent.Event) error {
	if err := r.checkStream(e); err != nil {
		return err
	}
	if e.Type == streamUpdated {
		r.updated(e)
		return nil
	}
	return r.verified(ctx, e)
}

// checkStream returns a fault if the event is about another stream. Google's
// events about a stream name no subject.
func (r *Receiver) checkStream(e *secevent.Event) error {
	switch {
	case e.Subject == nil && !r.Rules.Strict:
		return nil
	case e.Subject == nil || e.Subject.Format != secevent.Opaque || r.Stream != "" && e.Subject.Value != r.Stream:
		return &secevent.Fault{Code: secevent.InvalidRequest, Description: "the subject is not the stream of this receiver"}
	}
	return nil
}

// updated takes the word of the transmitter that the status of the stream has
// changed. Keycloak writes the status as an object.
func (r *Receiver) updated(e *secevent.Event) {
	status, reason := e.Members["status"], e.Members["reason"]
	if o, is := status.(map[string]any); is {
		status = o["status"]
	}
	s := stream.Status{}
	s.Status, _ = status.(string)
	s.Reason, _ = reason.(string)
	r.streamIs(statusFault(&s))
}

// statusFault returns why no events come from a stream of this status, or nil.
func statusFault(s *stream.Status) error {
	if s.Status == stream.Enabled || s.Status == "" {
		return nil
	}
	text := fmt.Sprintf("the stream is %s at the transmitter, so no events come", printable.Quote(s.Status))
	if s.Reason != "" {
		text += ": " + printable.Clean(s.Reason, 200)
	}
	return errors.New(text)
}

// maxAsked is how many states of verification are kept. A late one is of one of
// the last.
const maxAsked = 4

// record is the document of a stream, which all nodes share. A verification that
// one node asks for may arrive at another.
type record struct {
	Asked    []asked   `json:"asked,omitempty"` // the newest first
	Verified time.Time `json:"verified,omitzero"`
}

type asked struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// verified takes a verification event. One without a state was not asked for, and
// is taken. So is one with a state if this receiver has asked for none.
func (r *Receiver) verified(ctx context.Context, e *secevent.Event) error {
	state, stated := e.Members["state"]
	err := r.change(ctx, func(now *record) error {
		if stated && len(now.Asked) > 0 && !slices.ContainsFunc(now.Asked, func(a asked) bool { return a.State == state }) {
			return &secevent.Fault{Code: secevent.InvalidState, Description: "state is not one that this receiver has asked for"}
		}
		now.Verified = time.Now().UTC()
		return nil
	})
	if err == nil {
		r.streamIs(nil)
	}
	return err
}

// changes bounds how often a change begins anew because another node was first.
const changes = 20

// change changes the document of the stream. edit may run several times.
func (r *Receiver) change(ctx context.Context, edit func(*record) error) error {
	for range changes {
		now, version, err := r.load(ctx)
		if err != nil {
			return err
		}
		if err := edit(now); err != nil {
			return err
		}
		document, err := json.Marshal(now)
		if err != nil {
			return err
		}
		_, err = r.Door.Shelf.Save(ctx, r.shelf(), document, version)
		if !errors.Is(err, intake.ErrChanged) {
			return err
		}
	}
	return intake.ErrChanged
}

func (r *Receiver) shelf() string { return "stream/" + r.Door.Name }

func (r *Receiver) load(ctx context.Context) (*record, uint64, error) {
	document, version, err := r.Door.Shelf.Load(ctx, r.shelf())
	now := &record{}
	if err == nil && len(document) > 0 {
		err = json.Unmarshal(document, now)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("the document of the stream cannot be read: %w", err)
	}
	return now, version, nil
}
