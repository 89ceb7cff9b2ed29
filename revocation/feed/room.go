package feed

import (
	"fmt"
	"time"
)

// linger is how long a gateway may use the tokens that its replica has verified after
// the replica is lost. A replica counts for as long at least.
const linger = 1200 * time.Millisecond

// defaultMaxReplicas bounds the replicas of one credential without a configured
// bound.
const defaultMaxReplicas = 1024

// setConnected notes whether p is connected. The caller holds mu.
func (r *replicas) setConnected(p *replicaState, connected bool) {
	if p.connected == connected {
		return
	}
	if p.connected = connected; connected {
		r.connects[p.credential]++
	} else {
		r.connects[p.credential]--
	}
}

// room returns an error if the credential of a new replica has its maximum of
// connected replicas.
func (r *replicas) room(id identity) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.find(id) != nil {
		return nil
	}
	return r.refusal(id.credential)
}

// refusal returns an error if the credential has its maximum of connected
// replicas. refusal looks at no replica, so that refused replicas that come again
// without end cost little. The caller holds mu.
func (r *replicas) refusal(credential string) error {
	if n := r.connects[credential]; n >= r.limits[credential] {
		r.figures.refused.Inc()
		return fmt.Errorf("the feed token %q has %d replicas connected, and feed.tokens[].max_replicas allows no more", credential, n)
	}
	return nil
}

// makeRoom forgets the oldest lost replica, if the credential of a new replica has its
// maximum of replicas. refusal has returned nil, so one of them is lost. Replicas that
// the new one replaces make room by themselves. makeRoom returns an error, and forgets
// nothing, if the oldest one was lost less than linger ago. The caller holds mu.
func (r *replicas) makeRoom(id identity) error {
	count := 0
	var oldest *replicaState
	for _, p := range r.all {
		if p.credential != id.credential || r.replaces(id, p) {
			continue
		}
		count++
		if !p.connected && (oldest == nil || p.lost.Before(oldest.lost)) {
			oldest = p
		}
	}
	switch {
	case count < r.limits[id.credential] || oldest == nil:
		return nil
	case time.Since(oldest.lost) < linger:
		r.figures.refused.Inc()
		return fmt.Errorf("the feed token %q has %d replicas, and feed.tokens[].max_replicas allows no more; those that are lost count for %v at least", id.credential, count, linger)
	}
	r.drop(oldest)
	return nil
}
