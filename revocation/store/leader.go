package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// agreement is an instant, and a revision that was not behind the end of the
// log at that instant.
type agreement struct {
	at   time.Time
	head uint64
}

// leaderState is the report of the leader of a stream.
type leaderState struct {
	*jetstream.ClusterInfo // nil where one server elsewhere has the stream
	agreement
}

// heartbeatLimit is the age up to which a node counts as heard by the leader.
// Nodes send something every second.
const heartbeatLimit = 3 * time.Second

// askLeader asks the leader of a stream for its state. It fails if there is no
// leader, or no majority behind the leader. The instant of the agreement is the
// last one at which the leader heard from a majority, so a leader that was
// deposed and does not know it yet reports an instant before that.
func askLeader(ctx context.Context, s jetstream.Stream) (leaderState, error) {
	asked := time.Now()
	info, err := s.Info(ctx)
	if err != nil {
		return leaderState{}, err
	}
	out := leaderState{info.Cluster, agreement{asked, info.State.LastSeq}}
	if info.Cluster == nil {
		return out, nil
	}
	var silent []time.Duration
	for _, r := range info.Cluster.Replicas {
		if r.Offline || r.Active <= 0 { // 0: not heard since this leader leads
			r.Active = time.Hour
		}
		silent = append(silent, r.Active)
	}
	slices.Sort(silent)
	if n := (1 + len(silent)) / 2; n > 0 { // n others and the leader are a majority
		if silent[n-1] >= heartbeatLimit {
			return leaderState{}, errNoMajority
		}
		out.at = asked.Add(-silent[n-1])
	}
	if info.Cluster.Leader == "" {
		return leaderState{}, errNoMajority
	}
	return out, nil
}

func (l *Log) agree(a agreement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.agreed = a
}

// Agreed returns an instant and a revision: at that instant nothing was beyond
// the revision, on any node. Without a majority the instant does not advance.
func (l *Log) Agreed() (at time.Time, head uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.standalone() {
		return time.Now(), l.accounting.revision
	}
	return l.agreed.at, l.agreed.head
}

// probeLeaders finds out whether the log has a leader, before an append needs
// one. It also keeps both streams under one leader, so that the loss of another
// node stops nothing.
func (l *Log) probeLeaders(conn *connection) {
	ctx, cancel := context.WithTimeout(l.stop, answerTimeout)
	defer cancel()
	log, err := askLeader(ctx, conn.batches)
	if err == nil {
		l.agree(log.agreement)
		var audit leaderState
		if audit, err = askLeader(ctx, conn.audit); err == nil {
			l.alignLeaders(ctx, conn, log.ClusterInfo, audit.ClusterInfo)
		}
	}
	if l.stop.Err() == nil {
		l.recordMajority(err)
	}
}

// alignLeaders asks for the lead of the audit, if this node leads the log and
// not the audit.
func (l *Log) alignLeaders(ctx context.Context, conn *connection, log, audit *jetstream.ClusterInfo) {
	if conn.server == nil || log == nil || audit == nil || log.Leader != conn.server.Name() || audit.Leader == log.Leader || audit.Leader == "" {
		return
	}
	request, err := json.Marshal(server.JSApiLeaderStepdownRequest{Placement: &server.Placement{Preferred: log.Leader}})
	if err == nil {
		_, err = conn.nats.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamLeaderStepDownT, auditStream), request)
	}
	if err != nil {
		l.log.Debug("the audit keeps its leader", "error", err)
	}
}
