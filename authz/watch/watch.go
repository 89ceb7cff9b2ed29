// Package watch remembers the use of tokens and notices unusual use. It raises
// alerts, and answers questions about the activity of a subject, about the
// traffic that a revocation would hit, and about the lifetimes of tokens.
//
// # The path of a request
//
// [Watcher.Observe] copies a decision into a bounded queue without a lock. It
// never waits: when the queue is full, the event is dropped and counted. One
// goroutine takes events out of the queue and owns all state. It wakes ten times a
// second, because waking a goroutine for each event costs more than handling the
// event. It wakes at once when a revoked token is used, and when the queue is half
// full. A question is a function that the goroutine runs between two events.
//
// [Watcher.ObserveUses] takes several requests alike as one event. All figures count each of
// these requests. The watcher knows the times of the first and of the last, and
// takes the others as evenly spaced.
//
// # Memory
//
// The memory is bounded under any traffic. A million tokens take 72 MiB. A token
// takes 48 bytes without a pointer, in a table of its own (table.go, tokens.go).
// Names are kept as hashes, so that a name of 8 KiB takes as much as any other.
// Tokens are found by their identity and by their subject, because revocations
// by these are weighed all the time. Other queries scan the table: seldom, and
// between two pages of the scan the watcher takes in events. Distributions are
// sketches (HyperLogLog, DDSketch). Where memory is short, the watcher forgets
// the least recently used of a few tokens, and its answers say that they are
// partial.
// Of each issuer it knows the names of the claims of its tokens: at most 128
// different sets of at most 256 names each.
//
// A token is forgotten a window after its last use. So is its use in one
// network, under one policy and with one outcome.
//
// # Trust
//
// Only a token with a verified signature gets an entry. Of all other tokens the
// watcher counts bursts alone, by configured issuer and source network, in
// tables that a flood makes forgetful but not larger. The hashes are of SHA-256
// and without a secret: replicas must agree about them so that a token that two
// replicas saw counts once, and nobody can make a name that collides with
// another name. All text that leaves the watcher is printable ([insight.Text]).
//
// The watcher decides nothing. If it fails, it starts again with an empty
// memory, and no decision changes. The same holds when it is switched off.
package watch

import (
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/puzpuzpuz/xsync/v4"

	"rescind/authz"
	"rescind/revocation/insight"
)

// Options of a [Watcher].
type Options struct {
	Settings   Settings
	Registerer prometheus.Registerer // nil: metrics are not registered
	Logger     *slog.Logger          // nil: slog's own
}

// Watcher remembers the use of tokens. It is safe for concurrent use.
type Watcher struct {
	settings atomic.Pointer[Settings]
	sink     atomic.Pointer[func(insight.Alert)]
	metrics  *metrics
	log      *slog.Logger

	layouts layouts // that the memory knows

	queue *xsync.MPMCQueue[event]
	idle  atomic.Bool   // the goroutine waits on wake
	wake  chan struct{} // holds one
	fresh atomic.Int32  // events since the goroutine last looked into the queue

	questions chan func(*memory)
	closing   chan struct{}
	closed    atomic.Bool
	done      chan struct{}
}

// queueSize is the number of events that wait while the goroutine does not run. The
// goroutine is woken when the queue is half full, so the other half is for the time
// until it runs: 25 ms at 40,000 requests a second.
const queueSize = 2048

// ErrClosed says that the watcher is closed and answers no question.
var ErrClosed = errors.New("the watcher is closed")

// New returns a running watcher. [Watcher.Close] must be called in the end.
func New(o Options) (*Watcher, error) {
	w := &Watcher{
		metrics:   newMetrics(),
		log:       o.Logger,
		queue:     xsync.NewMPMCQueue[event](queueSize),
		wake:      make(chan struct{}, 1),
		questions: make(chan func(*memory)),
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
	}
	if o.Registerer != nil {
		if err := w.metrics.register(o.Registerer); err != nil {
			return nil, err
		}
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	w.SetSink(nil)
	w.Configure(o.Settings)
	go w.run()
	return w, nil
}

// Configure puts other settings in force. The memory stays, unless the number of
// tokens changes or the watcher is switched off.
func (w *Watcher) Configure(s Settings) {
	s = s.bounded()
	w.settings.Store(&s)
}

// SetSink sets the receiver of alerts. The sink runs on the watcher's goroutine, or on
// that of a caller of [Watcher.Alert], and must not block. Without a sink, alerts are counted alone.
func (w *Watcher) SetSink(sink func(insight.Alert)) {
	if sink == nil {
		sink = func(insight.Alert) {}
	}
	w.sink.Store(&sink)
}

// Close ends the watcher. It handles the events that were observed before, and
// hands out the alerts that were held back.
func (w *Watcher) Close() error {
	if w.closed.CompareAndSwap(false, true) {
		close(w.closing)
	}
	<-w.done
	return nil
}

// attempts is how often put tries to queue an event against concurrent
// callers. So many failures in a row mean that the queue is full.
const attempts = 8

// Observe records a decision; r may be nil. It does not block and keeps no
// pointer to its arguments.
func (w *Watcher) Observe(r *authz.Request, d *authz.Decision, at time.Time) {
	w.ObserveUses(r, d, at, at, 1)
}

// ObserveUses records a decision that was made so many times between first and last,
// about requests with one token from one address. Otherwise it is as [Watcher.Observe].
func (w *Watcher) ObserveUses(r *authz.Request, d *authz.Decision, first, last time.Time, times int) {
	if !w.settings.Load().Enabled || !matters(d) || w.closed.Load() || times < 1 {
		return
	}
	e := eventOf(r, d, last)
	e.times, e.span = uint32(min(times, math.MaxInt32)), max(last.Sub(first), 0)
	if f := d.Facts; f != nil && f.Claims != nil {
		if e.layout = f.Layout.Load(); e.layout == 0 {
			e.layout = layoutOf(d.Issuer, f.Claims)
			f.Layout.Store(e.layout)
		}
		if w.layouts.learn(e.layout) {
			e.names = namesOf(f.Claims)
		}
	}
	w.put(&e)
}

// put queues an event, and wakes the goroutine if it must not rest.
func (w *Watcher) put(e *event) {
	for range attempts {
		if w.queue.TryEnqueue(*e) {
			// The goroutine sets idle and then looks at the queue once more, so
			// no event is left without a wake-up.
			if w.fresh.Add(1) == queueSize/2 || e.reason == authz.Revoked || w.idle.Load() && w.idle.CompareAndSwap(true, false) {
				select {
				case w.wake <- struct{}{}:
				default: // a wake-up is pending
				}
			}
			return
		}
	}
	w.metrics.dropped.Add(float64(e.times))
}
