package store

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"rescind/test/eventually"
)

// ports finds n that are free now.
func ports(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// nodes are the options of n nodes on loopback.
func nodes(t *testing.T, n int) (out []Options) {
	addrs := ports(t, n)
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
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		rev, err := o.Append(t.Context(), o.Last(), time.Now().Add(time.Hour), []byte(body))
		if rev != 0 || err != nil {
			return rev, err
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal("conflicts for 20 s")
		}
	}
}

func TestThreeNodes(t *testing.T) {
	options := nodes(t, 3)
	n := start(t, options)
	if n[0].ID() != n[1].ID() || n[1].ID() != n[2].ID() {
		t.Fatalf("logs %s, %s and %s", n[0].ID(), n[1].ID(), n[2].ID())
	}
	var last uint64
	put := func(node int, body string) {
		t.Helper()
		rev, err := n[node].put(t, body)
		if err != nil {
			t.Fatalf("node %d: %v", node+1, err)
		}
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
	}
	for i := range 9 {
		put(i%3, fmt.Sprint("all ", i))
	}
	for i := range n {
		eventually.True(t, "every node to have read all", func() bool { return n[i].Last() == last })
	}

	// One is lost: the others go on.
	_ = n[2].Close()
	for i := range 4 {
		eventually.Succeeds(t, "an append", func() error { _, err := n[i%2].put(t, fmt.Sprint("two ", i)); return err })
	}
	eventually.True(t, "the others to agree", func() bool { return n[0].Last() == n[1].Last() })
	last = n[0].Last()

	// Two are lost: nothing is accepted, and the third does not say that it
	// knows all there is.
	eventually.True(t, "it to know all", func() bool { _, head := n[0].Agreed(); return head == last })
	_ = n[1].Close()
	lost := time.Now()
	if rev, err := n[0].put(t, "alone"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a majority: %d, %v", rev, err)
	}
	if rev, err := n[0].Head(t.Context(), last+1); err == nil {
		t.Errorf("without a majority the last revision is %d", rev)
	}
	time.Sleep(2 * time.Second)
	if at, _ := n[0].Agreed(); at.After(lost) {
		t.Errorf("it was sure %v after it was left alone", at.Sub(lost))
	}

	// They come back, and catch up.
	back := start(t, options[1:])
	n[1], n[2] = back[0], back[1]
	eventually.Succeeds(t, "an append", func() error { _, err := n[2].put(t, "back"); return err })
	last = n[2].Last()
	for i := range n {
		eventually.True(t, "every node to have caught up", func() bool { return n[i].Last() >= last })
		eventually.True(t, "every node to be sure again", func() bool { at, head := n[i].Agreed(); return at.After(lost) && head >= last })
	}
}
