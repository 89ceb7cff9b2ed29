package watch

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"rescind/revocation/insight"
)

const (
	// rest is how long events gather before the goroutine handles them.
	rest = 100 * time.Millisecond
	// tickEvery is how often memory.tick runs.
	tickEvery = time.Second
)

// run is the watcher's goroutine.
func (w *Watcher) run() {
	defer close(w.done)
	for !w.live() {
	}
}

// live begins with an empty memory and handles events until the watcher is
// closed or fails. It reports whether the watcher was closed.
func (w *Watcher) live() (over bool) {
	defer func() {
		if p := recover(); p != nil {
			// The stack and the type: the value may quote a token.
			w.log.Error("watcher failed, starting again with an empty memory", slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	m := w.begin(w.settings.Load())
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	pause := time.NewTimer(rest)
	defer pause.Stop()
	for {
		if s := w.settings.Load(); !m.configure(s) {
			m = w.begin(s)
		}
		var rested <-chan time.Time
		busy := w.drain(m)
		if !busy {
			w.idle.Store(true)
			busy = w.drain(m) // an event may have come before idle was set
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
			w.metrics.tokens.Set(float64(m.tokens.n))
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

// begin returns an empty memory. Later events bring the names of every layout to
// it.
func (w *Watcher) begin(s *Settings) *memory {
	m := newMemory(s, time.Now(), w.emit)
	m.layouts = &w.layouts
	m.layouts.clear()
	return m
}

// drain handles the queued events, at most as many as the queue holds. It
// reports whether there was one.
func (w *Watcher) drain(m *memory) bool {
	w.fresh.Store(0)
	if lost := w.metrics.lost(); lost {
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

// emit hands an alert to the sink.
func (w *Watcher) emit(a insight.Alert, sightings uint64) {
	w.metrics.alerts.WithLabelValues(string(a.Detector)).Add(float64(sightings))
	(*w.sink.Load())(a)
}

// Alert counts an alert that another part of the replica has raised, and hands it to the
// sink at once.
func (w *Watcher) Alert(a insight.Alert) { w.emit(a, a.Count) }

// ask runs question between two events, and waits until it has run. A question
// that walks through a large table calls breathe to let events be handled.
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
