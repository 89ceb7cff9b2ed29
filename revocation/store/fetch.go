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

// Each of several nodes reads from the nearest copy of the stream, as a rule its
// own. JetStream would place a consumer on some node, and the consumer stands
// still for many seconds when that node dies. A majority has agreed on the
// content of a copy, so the content stays, but the newest batches may be
// missing. So a node that appends announces the revision, and the others ask
// until their copy has it.

const appendedSubject = "rescind.appended"

// Bounds of one answer. A larger message comes alone.
const (
	fetchMessages = 1000
	fetchBytes    = 8 << 20
)

// pollTime is the pause between two questions while nothing is announced.
const pollTime = 200 * time.Millisecond

// fetcher asks for messages. The last part of an answer's subject names the
// question.
type fetcher struct {
	*reader
	conn    *connection
	answers *nats.Subscription
	inbox   string
	asked   uint64
}

// poll reads over one connection. It returns the error that ends the reading.
func (r *reader) poll(ctx context.Context, conn *connection) error {
	f := &fetcher{reader: r, conn: conn, inbox: conn.nats.NewInbox()}
	var err error
	if f.answers, err = conn.nats.SubscribeSync(f.inbox + ".*"); err != nil {
		return err
	}
	defer func() { _ = f.answers.Unsubscribe() }()
	if err := f.answers.SetPendingLimits(-1, -1); err != nil { // each answer is bounded
		return err
	}
	appended := make(chan uint64, 1)
	announcements, err := conn.nats.Subscribe(appendedSubject, func(m *nats.Msg) {
		revision, _ := strconv.ParseUint(string(m.Data), 10, 64)
		select {
		case <-appended: // the newer announcement replaces it
		default:
		}
		appended <- revision
	})
	if err != nil {
		return err
	}
	defer func() { _ = announcements.Unsubscribe() }()
	var announced uint64
	for wait := pollTime; ; {
		before := r.next
		if err := f.fetch(ctx); err != nil {
			return err
		}
		switch {
		case r.next > before: // there may be more
			wait = 0
			continue
		case r.next <= announced: // the copy is a moment behind
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
			if revision > announced {
				announced, wait = revision, 0
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// fetch takes the next messages of the nearest copy, as many as one answer holds.
func (f *fetcher) fetch(ctx context.Context) error {
	f.asked++
	reply := fmt.Sprintf("%s.%d", f.inbox, f.asked)
	request, err := json.Marshal(server.JSApiMsgGetRequest{Seq: f.next, Batch: fetchMessages, MaxBytes: fetchBytes})
	if err != nil {
		return err
	}
	if err := f.conn.nats.PublishRequest(fmt.Sprintf(server.JSDirectMsgGetT, batchStream), reply, request); err != nil {
		return err
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, answerTimeout) // the node that was asked may be gone
		m, err := f.answers.NextMsgWithContext(waiting)
		cancel()
		switch {
		case err != nil:
			return err
		case m.Subject != reply: // of an earlier question
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

// announce tells the other nodes that the log reaches revision.
func (c *connection) announce(revision uint64) {
	_ = c.nats.Publish(appendedSubject, strconv.AppendUint(nil, revision, 10)) // without it they find out after pollTime
}

// errMissing says that a revision is not in the log.
var errMissing = errors.New("there is no such revision")

// stored asks the leader whether the log has a revision. The client library
// would ask the nearest node.
func (c *connection) stored(ctx context.Context, revision uint64) error {
	request, err := json.Marshal(server.JSApiMsgGetRequest{Seq: revision})
	if err != nil {
		return err
	}
	m, err := c.nats.RequestWithContext(ctx, fmt.Sprintf(server.JSApiMsgGetT, batchStream), request)
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
