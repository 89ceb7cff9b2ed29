package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rescind/test/eventually"
	"rescind/test/freeport"
)

// nodes are the options of n nodes on loopback.
func nodes(t *testing.T, n int) (out []Options) {
	addrs := freeport.Addrs(t, n)
	for i, a := range addrs {
		c := &Cluster{Name: fmt.Sprint("n", i+1), Listen: a, Secret: "s3cret"}
		for j, other := range addrs {
			if j != i {
				c.Peers = append(c.Peers, other)
			}
		}
		out = append(out, Options{Dir: t.TempDir(), Cluster: c})
	}
	return out
}

// start opens the nodes at the same time, as they wait for each other.
func start(t *testing.T, all []Options) []*opened {
	t.Helper()
	logs, errs := make([]*opened, len(all)), make(chan error, len(all))
	for i, o := range all {
		go func() {
			var err error
			logs[i], err = open(t, o)
			errs <- err
		}()
	}
	for range all {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	return logs
}

// put appends through a node, as a ledger does: on a conflict it reads on and
// tries again.
func (o *opened) put(t *testing.T, body string) (uint64, error) {
	t.Helper()
	var rev uint64
	var err error
	eventually.True(t, "an append without a conflict", func() bool {
		rev, err = o.Append(t.Context(), o.Last(), time.Now().Add(time.Hour), []byte(body))
		return rev != 0 || err != nil
	})
	return rev, err
}

func TestThreeNodes(t *testing.T) {
	options := nodes(t, 3)
	n := start(t, options)
	if n[0].ID() != n[1].ID() || n[1].ID() != n[2].ID() {
		t.Fatalf("three nodes: got the logs %s, %s and %s, want one log", n[0].ID(), n[1].ID(), n[2].ID())
	}
	var last uint64
	put := func(node int, body string) {
		t.Helper()
		rev, err := n[node].put(t, body)
		if err != nil {
			t.Fatalf("append of %q to node %d: got %v, want no error", body, node+1, err)
		}
		if rev <= last {
			t.Fatalf("append of %q to node %d: got revision %d, want one after %d", body, node+1, rev, last)
		}
		last = rev
	}
	for i := range 9 {
		put(i%3, fmt.Sprint("all ", i))
	}
	for i := range n {
		eventually.True(t, fmt.Sprintf("node %d has read revision %d", i+1, last), func() bool { return n[i].Last() == last })
	}

	// One is lost: the others go on.
	_ = n[2].Close()
	for i := range 4 {
		eventually.Succeeds(t, "an append to two of three nodes", func() error { _, err := n[i%2].put(t, fmt.Sprint("two ", i)); return err })
	}
	eventually.True(t, "the two nodes have the same last revision", func() bool { return n[0].Last() == n[1].Last() })
	last = n[0].Last()

	// Two are lost: nothing is accepted, and the third does not say that it
	// knows all there is.
	eventually.True(t, fmt.Sprintf("the third node knows that the log ends at revision %d", last), func() bool { _, head := n[0].Agreed(); return head == last })
	_ = n[1].Close()
	lost := time.Now()
	if rev, err := n[0].put(t, "alone"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an append without a majority: revision %d, %v, want %v", rev, err, ErrUnavailable)
	}
	if rev, err := n[0].Head(t.Context(), last+1); err == nil {
		t.Errorf("without a majority Head returns %d, want an error", rev)
	}
	for range 2 {
		n[0].probeLeaders(n[0].conn)
	}
	if at, _ := n[0].Agreed(); at.After(lost) {
		t.Errorf("Agreed returns an instant %v after the majority was lost, want one before", at.Sub(lost))
	}

	// They come back, and catch up.
	back := start(t, options[1:])
	n[1], n[2] = back[0], back[1]
	eventually.Succeeds(t, "an append once a majority is back", func() error { _, err := n[2].put(t, "back"); return err })
	last = n[2].Last()
	for i := range n {
		eventually.True(t, fmt.Sprintf("node %d has caught up with revision %d", i+1, last), func() bool { return n[i].Last() >= last })
		eventually.True(t, fmt.Sprintf("node %d agrees with the others again", i+1), func() bool { at, head := n[i].Agreed(); return at.After(lost) && head >= last })
	}
}
