package watch

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"rescind/revocation/insight"
)

const (
	// rest is how long events gather before they are looked at.
	rest = 20 * time.Millisecond
	// second is how often it is seen to what is due.
	second = time.Second
)

// run is the goroutine that watches.
func (w *Watcher) run() {
	defer close(w.done)
	for !w.live() {
	}
}

// live watches with an empty memory, until the end (and then it says so) or
// until it fails.
func (w *Watcher) live() (over bool) {
	defer func() {
		if p := recover(); p != nil {
			// The stack and the type: the value may quote a token.
			w.log.Error("watching failed; it begins anew", slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	m := newMemory(w.settings.Load(), time.Now(), w.hand)
	ticker := time.NewTicker(second)
	defer ticker.Stop()
	pause := time.NewTimer(rest)
	defer pause.Stop()
	for {
		if s := w.settings.Load(); !m.configure(s) {
			m = newMemory(s, time.Now(), w.hand)
		}
		var rested <-chan time.Time
		busy := w.drain(m)
		if !busy {
			w.idle.Store(true)
			busy = w.drain(m) // what came just before that
		}
		if busy {
			w.idle.Store(false)
			pause.Reset(rest)
			rested = pause.C
		}
		select {
		case <-rested:
		case <-w.wake:
		case <-ticker.C:
			m.tick(time.Now())
			w.figures.tokens.Set(float64(m.tokens.n))
		case ask := <-w.questions:
			w.drain(m)
			ask(m)
		case <-w.closing:
			for w.drain(m) {
			}
			m.alerts.flush(time.Now())
			return true
		}
	}
}

// drain takes in what has been queued, as much as there is room for at most,
// and says whether there was something.
func (w *Watcher) drain(m *memory) bool {
	if lost := w.figures.lost(); lost {
		m.missed = memoryLoss{m.stamp(time.Now()), true}
	}
	for n := range queueSize {
		var ok bool
		if m.event, ok = w.queue.TryDequeue(); !ok {
			return n > 0
		}
		m.note(&m.event)
	}
	return true
}

// hand gives out an alert.
func (w *Watcher) hand(a insight.Alert, sightings uint64) {
	w.figures.alerts.WithLabelValues(string(a.Detector)).Add(float64(sightings))
	(*w.sink.Load())(a)
}

// ask runs question between two events, and waits until it has run. While it
// walks through a large table it may let events in by calling breathe.
func (w *Watcher) ask(question func(m *memory, breathe func())) error {
	answered := make(chan struct{})
	ask := func(m *memory) {
		defer close(answered)
		question(m, func() { w.drain(m) })
	}
	select {
	case w.questions <- ask:
		<-answered
		return nil
	case <-w.done:
		return ErrClosed
	}
}
