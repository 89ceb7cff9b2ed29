package feed

import (
	"sync"
	"time"
)

// lane holds the sessions of one credential over one connection. They are woken
// together, so that their messages share packets, and so do the acknowledgements
// that come back.
type lane struct {
	from      string
	heartbeat time.Duration
	sessions  int // guarded by the mutex of the pace; at most maxStreams

	mu     sync.Mutex
	turn   chan struct{} // closed when the sessions are woken
	growth uint64        // of the tail when the sessions were woken last
	beats  uint64        // heartbeats that have become due
	beat   *time.Timer   // nil: the lane is closed
}

func newLane(from string, heartbeat time.Duration) *lane {
	l := &lane{from: from, heartbeat: heartbeat, turn: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beat = time.AfterFunc(heartbeat, l.pulse)
	return l
}

// next returns a channel that is closed when the sessions are woken next, and the
// number of heartbeats that have become due.
func (l *lane) next() (turn <-chan struct{}, beats uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turn, l.beats
}

// woken returns the growth of the tail at which the sessions were woken last.
func (l *lane) woken() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.growth
}

// wake wakes the sessions because of this growth of the tail.
func (l *lane) wake(growth uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.growth = growth
	l.wakeAll()
}

// pulse wakes the sessions because a heartbeat is due.
func (l *lane) pulse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.beat == nil {
		return
	}
	l.beats++
	l.wakeAll()
	l.beat.Reset(l.heartbeat)
}

// wakeAll wakes the sessions. The caller holds mu.
func (l *lane) wakeAll() {
	close(l.turn)
	l.turn = make(chan struct{})
}

// close ends the heartbeats.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beat.Stop()
	l.beat = nil
}
