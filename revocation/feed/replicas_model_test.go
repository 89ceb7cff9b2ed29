package feed

import (
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation/feed/feedpb"
)

// The counts that spare a pass over all replicas are right after every change:
// the connected replicas of each credential, the floor, and the replicas at the
// floor. A refused replica changes nothing.
func TestCountsOfReplicasAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const most = 3
		r := newReplicas(slog.New(slog.DiscardHandler), []Token{{Name: "a", MaxReplicas: most}, {Name: "b", MaxReplicas: most}}, newKnowledge(time.Hour))
		sessions := map[*replicaState]*session{}
		draw := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) }
		identityOf := func() identity {
			return identity{credential: []string{"a", "b"}[draw("credential", 2)], name: fmt.Sprint("r", draw("name", 4)), instance: [16]byte{byte(draw("instance", 2))}}
		}
		one := func() *replicaState { // that follows here; nil: none
			for _, p := range r.all {
				if p.session != nil && draw("this one", 2) == 0 {
					return p
				}
			}
			return nil
		}
		for step := range rapid.IntRange(1, 80).Draw(rt, "steps") {
			switch draw("step", 8) {
			case 0, 1:
				id, before := identityOf(), len(r.all)
				nameless := identity{name: id.name, instance: id.instance} // of a node of the first edition
				full := r.all[id] == nil && r.all[nameless] == nil && (connectedOf(r, id.credential) >= most || !hasRoom(r, id, most))
				s := &session{cancel: func(error) {}}
				p, err := r.join(arrival{identity: id, revision: uint64(draw("revision", 4)), known: true}, s)
				if (err != nil) != full || err != nil && len(r.all) != before {
					rt.Fatalf("step %d: %v joins beside %d connected of %d: got %v, want a refusal %v that changes nothing", step, id, connectedOf(r, id.credential), most, err, full)
				}
				if err == nil {
					sessions[p] = s
				}
			case 2, 3:
				if p := one(); p != nil {
					r.ack(p, sessions[p], &feedpb.Ack{Revision: p.revision + uint64(draw("revision", 3))})
				}
			case 4:
				if p := one(); p != nil {
					r.leave(p, sessions[p])
				}
			case 5:
				if p := one(); p != nil {
					r.goodbye(p, sessions[p])
				}
			case 6: // time passes
				for _, p := range r.all {
					p.lost = p.lost.Add(-linger)
				}
			case 7: // another node, perhaps of the first edition
				row := replicaRow{Connected: draw("connected", 2) == 0, Gone: draw("gone", 4) == 0, Incomplete: draw("incomplete", 3) == 0,
					Joined: time.Now().Add(time.Hour), Revision: uint64(draw("revision", 4))}
				id := identityOf()
				row.Name, row.Instance = id.name, id.instance
				if draw("edition", 2) == 0 {
					row.Credential = id.credential
				}
				r.merge("n2", &gossip{Replicas: []replicaRow{row}, All: draw("all", 2) == 0})
			}
			checkCounts(rt, r, step)
		}
	})
}

// hasRoom reports whether the new replica of this identity would find room: less than
// most replicas of its credential that it does not replace, or a lost one that no
// gateway relies on.
func hasRoom(r *replicas, id identity, most int) bool {
	others, idle := 0, false
	for _, p := range r.all {
		if p.credential == id.credential && (p.connected || p.name != id.name) {
			others++
			idle = idle || !p.connected && time.Since(p.lost) >= linger
		}
	}
	return others < most || idle
}

func connectedOf(r *replicas, credential string) (n int) {
	for _, p := range r.all {
		if p.credential == credential && p.connected {
			n++
		}
	}
	return n
}

func checkCounts(rt *rapid.T, r *replicas, step int) {
	rt.Helper()
	floor, atFloor := uint64(math.MaxUint64), 0
	for _, p := range r.all {
		floor = min(floor, p.inForce())
	}
	for _, p := range r.all {
		if p.inForce() == floor {
			atFloor++
		}
	}
	if r.floor != floor || len(r.all) > 0 && r.atFloor != atFloor {
		rt.Fatalf("step %d: got floor %d with %d replicas at it, want %d with %d", step, r.floor, r.atFloor, floor, atFloor)
	}
	for _, credential := range []string{"", "a", "b"} {
		if got, want := r.connects[credential], connectedOf(r, credential); got != want {
			rt.Fatalf("step %d: got %d connected replicas of credential %q, want %d", step, got, credential, want)
		}
	}
}
