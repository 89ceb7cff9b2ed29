package feed

import "fmt"

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

// makeRoom forgets the oldest lost replica of a credential that has its maximum of
// replicas. refusal has returned nil, so one of them is lost. The caller holds mu.
func (r *replicas) makeRoom(credential string) {
	count := 0
	var oldest *replicaState
	for _, p := range r.all {
		if p.credential != credential {
			continue
		}
		count++
		if !p.connected && (oldest == nil || p.lost.Before(oldest.lost)) {
			oldest = p
		}
	}
	if count >= r.limits[credential] && oldest != nil {
		r.drop(oldest)
	}
}
