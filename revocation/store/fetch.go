package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Where there are several nodes each reads from the copy of the stream that is
// nearest, its own as a rule. A consumer, which JetStream would place on some
// node, stands still for many seconds when that node dies. What a copy has is
// agreed on by a majority and stays; it may lack the newest. So whoever appends
// tells the others, and they ask until their copy has it.

const appendedSubject = "rescind.appended"

// Sizes of an answer: a message is more than that if it is alone.
const (
	fetchMessages = 1000
	fetchBytes    = 8 << 20
)

// pollTime is how often a copy is asked for what nobody told of.
const pollTime = 200 * time.Millisecond

// fetcher asks for messages and tells their answers apart by the last part of
// the subject.
type fetcher struct {
	*reader
	link    *link
	answers *nats.Subscription
	inbox   string
	asked   uint64
}

// poll reads over one link for as long as that works.
func (r *reader) poll(ctx context.Context, k *link) error {
	f := &fetcher{reader: r, link: k, inbox: k.conn.NewInbox()}
	var err error
	if f.answers, err = k.conn.SubscribeSync(f.inbox + ".*"); err != nil {
		return err
	}
	defer func() { _ = f.answers.Unsubscribe() }()
	if err := f.answers.SetPendingLimits(-1, -1); err != nil { // each answer is bounded
		return err
	}
	appended := make(chan uint64, 1)
	kicks, err := k.conn.Subscribe(appendedSubject, func(m *nats.Msg) {
		revision, _ := strconv.ParseUint(string(m.Data), 10, 64)
		select {
		case <-appended: // the newer one counts
		default:
		}
		appended <- revision
	})
	if err != nil {
		return err
	}
	defer func() { _ = kicks.Unsubscribe() }()
	var told uint64
	for wait := pollTime; ; {
		before := r.next
		if err := f.fetch(ctx); err != nil {
			return err
		}
		switch {
		case r.next > before: // there may be more
			wait = 0
			continue
		case r.next <= told: // the copy is a moment behind
			wait = min(max(2*wait, time.Millisecond), pollTime)
		default:
			wait = pollTime
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case revision := <-appended:
			if revision > told {
				told, wait = revision, 0
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// fetch takes what the nearest copy has next, up to the size of one answer.
func (f *fetcher) fetch(ctx context.Context) error {
	f.asked++
	reply := fmt.Sprintf("%s.%d", f.inbox, f.asked)
	request, err := json.Marshal(server.JSApiMsgGetRequest{Seq: f.next, Batch: fetchMessages, MaxBytes: fetchBytes})
	if err != nil {
		return err
	}
	if err := f.link.conn.PublishRequest(fmt.Sprintf(server.JSDirectMsgGetT, batchStream), reply, request); err != nil {
		return err
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, unanswered) // the node that was asked may be gone
		m, err := f.answers.NextMsgWithContext(waiting)
		cancel()
		switch {
		case err != nil:
			return err
		case m.Subject != reply: // late
			continue
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204", "404": // the end; nothing there
			return nil
		default:
			return fmt.Errorf("reading the log: %s %s", status, m.Header.Get("Description"))
		}
		revision, err := strconv.ParseUint(m.Header.Get(nats.JSSequence), 10, 64)
		if err != nil {
			return fmt.Errorf("reading the log: a message without its revision: %w", err)
		}
		if err := f.take(revision, m.Header.Get(nats.JSSubject), m.Data); err != nil {
			return err
		}
	}
}

// tellAppended tells the other nodes that there is something to read.
func (k *link) tellAppended(revision uint64) {
	_ = k.conn.Publish(appendedSubject, strconv.AppendUint(nil, revision, 10)) // else they find out by themselves
}

// errMissing says that a revision is not in the log.
var errMissing = errors.New("there is no such revision")

// stored asks the node that leads whether the log has a revision. The library
// would ask the nearest.
func (k *link) stored(ctx context.Context, revision uint64) error {
	request, err := json.Marshal(server.JSApiMsgGetRequest{Seq: revision})
	if err != nil {
		return err
	}
	m, err := k.conn.RequestWithContext(ctx, fmt.Sprintf(server.JSApiMsgGetT, batchStream), request)
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return err
	case answer.Error == nil:
		return nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return errMissing
	}
	return answer.Error
}
