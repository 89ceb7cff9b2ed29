// Package watch notices unusual use of tokens, and remembers what they were
// used for: it raises alerts, answers what was seen of somebody, how much a
// revocation would hit, and how the lifetimes of tokens fit their use.
//
// # The path of a request
//
// [Watcher.Observe] copies a decision into a bounded queue without a lock, and
// that is all: it never waits, and when the queue is full the event is dropped
// and counted. One goroutine takes events out and owns all state. It wakes
// fifty times a second at most, because to wake a goroutine for each event
// costs more than all that is done with it; but at once for the use of
// something revoked. A question is a function that it runs between two events.
//
// # Memory
//
// What is remembered is bounded, whatever comes: a million tokens in 72 MiB.
// A token is 48 bytes without a pointer, in a table of its own (table.go,
// tokens.go); who and what it is stands there as hashes, so that a name of 8
// KiB weighs what any other does. Tokens are found by their identity and by
// their subject, because revocations by these are weighed all the time. Other
// queries scan the table: seldom, and between two pages of the scan the watcher
// takes in events. Distributions are sketches (HyperLogLog, DDSketch).
// Where memory is short the least lately used of a few goes, and answers say
// that they are partial.
//
// A token is forgotten a window after its last use, and so is what it did in
// one network, under one policy, with one outcome.
//
// # Trust
//
// Only a token whose signature has been verified gets an entry of any kind,
// its issuer's word being that it is one. Of all else only bursts are counted,
// by configured issuer and source network, in tables that a flood makes
// forgetful and not larger. Hashes are of SHA-256, without a secret: replicas
// must agree about them, so that what two of them saw is counted once, and
// nobody can make a name that is taken for another's. What comes out is
// printable ([insight.Text]).
//
// Nothing here decides. If it fails it begins anew with an empty memory, and no
// decision changes; neither does one if it is switched off.
package watch

import (
	"errors"
	"log/slog"
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
	Registerer prometheus.Registerer // nil: no figures
	Logger     *slog.Logger          // nil: slog's own
}

// Watcher watches. It is safe for concurrent use.
type Watcher struct {
	settings atomic.Pointer[Settings]
	sink     atomic.Pointer[func(insight.Alert)]
	figures  *figures
	log      *slog.Logger

	queue *xsync.MPMCQueue[event]
	idle  atomic.Bool   // the goroutine waits to be woken
	wake  chan struct{} // holds one

	questions chan func(*memory)
	closing   chan struct{}
	closed    atomic.Bool
	done      chan struct{}
}

// queueSize is what may come in while the goroutine is not running: 50 ms
// at 40,000 requests a second.
const queueSize = 2048

// ErrClosed says that there is nobody to ask any more.
var ErrClosed = errors.New("the watcher is closed")

// New begins to watch.
func New(o Options) (*Watcher, error) {
	w := &Watcher{
		figures:   newFigures(),
		log:       o.Logger,
		queue:     xsync.NewMPMCQueue[event](queueSize),
		wake:      make(chan struct{}, 1),
		questions: make(chan func(*memory)),
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
	}
	if o.Registerer != nil {
		if err := w.figures.register(o.Registerer); err != nil {
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

// Configure puts other settings in force. What is remembered stays, unless
// there is room for another number of tokens or the watcher is switched off.
func (w *Watcher) Configure(s Settings) {
	s = s.bounded()
	w.settings.Store(&s)
}

// SetSink says who is handed alerts. It is called on the goroutine that
// watches, and must not block. Without one they are counted only.
func (w *Watcher) SetSink(sink func(insight.Alert)) {
	if sink == nil {
		sink = func(insight.Alert) {}
	}
	w.sink.Store(&sink)
}

// Close ends the watching. What was observed before is still looked at, and
// alerts that were held back are handed over.
func (w *Watcher) Close() error {
	if w.closed.CompareAndSwap(false, true) {
		close(w.closing)
	}
	<-w.done
	return nil
}

// attempts is how often one that lost against others tries again to queue an
// event. Losing so often in a row means a queue that is full.
const attempts = 8

// Observe takes note of a decision; r may be nil. It does not block and keeps
// nothing of what it is given.
func (w *Watcher) Observe(r *authz.Request, d *authz.Decision, at time.Time) {
	if !w.settings.Load().Enabled || !matters(d) || w.closed.Load() {
		return
	}
	e := eventOf(r, d, at)
	for range attempts {
		if w.queue.TryEnqueue(e) {
			// The order matters: the goroutine says that it is idle, and then
			// looks once more.
			if d.Reason == authz.Revoked || w.idle.Load() && w.idle.CompareAndSwap(true, false) {
				select {
				case w.wake <- struct{}{}:
				default: // it is being woken
				}
			}
			return
		}
	}
	w.figures.dropped.Inc()
}
