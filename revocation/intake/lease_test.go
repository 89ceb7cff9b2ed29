package intake

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pollers are nodes that want one lease.
type pollers struct {
	mu      sync.Mutex
	running []string // names of the nodes that run, in the order of their begin
	history []string // every begin
}

// node wants the lease until the returned function is called. fail ends a run
// with an error.
func (p *pollers) node(shelf Shelf, name string) (stop func(), fail chan<- error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended, failing := make(chan struct{}), make(chan error)
	go func() {
		defer close(ended)
		NewLease(shelf, "kc", slog.New(slog.DiscardHandler)).Run(ctx, func(ctx context.Context) error {
			p.mu.Lock()
			p.running, p.history = append(p.running, name), append(p.history, name)
			p.mu.Unlock()
			defer func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				i := slices.Index(p.running, name)
				p.running = slices.Delete(p.running, i, i+1)
			}()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-failing:
				return err
			}
		})
	}()
	return func() { cancel(); <-ended }, failing
}

func (p *pollers) want(t *testing.T, when string, names ...string) {
	t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.running, names) {
		t.Errorf("%s: got %q polling, want %q", when, p.running, names)
	}
}

func TestLeaseLetsOneNodePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf, p := newShelf(), &pollers{}
		stopA, _ := p.node(shelf, "a")
		p.want(t, "a alone", "a")
		stopB, _ := p.node(shelf, "b")
		time.Sleep(time.Hour)
		p.want(t, "an hour later", "a")
		stopA()
		time.Sleep(leaseLook)
		p.want(t, "after a gave it back", "b")
		stopB()
		p.want(t, "at the end")
	})
}

// cutOff is a shelf that a node cannot reach for a while.
type cutOff struct {
	Shelf
	mu  sync.Mutex
	err error
}

func (c *cutOff) set(err error) { c.mu.Lock(); defer c.mu.Unlock(); c.err = err }

func (c *cutOff) fault() error { c.mu.Lock(); defer c.mu.Unlock(); return c.err }

func (c *cutOff) Load(ctx context.Context, name string) ([]byte, uint64, error) {
	if err := c.fault(); err != nil {
		return nil, 0, err
	}
	return c.Shelf.Load(ctx, name)
}

func (c *cutOff) Save(ctx context.Context, name string, document []byte, version uint64) (uint64, error) {
	if err := c.fault(); err != nil {
		return 0, err
	}
	return c.Shelf.Save(ctx, name, document, version)
}

func TestLeasePassesOnWhenItsHolderIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf, p := newShelf(), &pollers{}
		own := &cutOff{Shelf: shelf}
		stopA, _ := p.node(own, "a")
		p.want(t, "a alone", "a")
		stopB, _ := p.node(shelf, "b")
		time.Sleep(10 * time.Second)
		own.set(errBroken)
		time.Sleep(leaseTime - 2*leaseRenew)
		p.want(t, "before the time of the lease", "a")
		time.Sleep(leaseTime + 3*leaseLook)
		p.want(t, "after the time of the lease", "b")
		own.set(nil)
		time.Sleep(time.Minute)
		p.want(t, "once a is back", "b")
		stopB()
		stopA()
	})
}

// No instant is on the shelf, so the clocks of the nodes need not agree.
func TestLeaseHasNoInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf, p := newShelf(), &pollers{}
		stop, _ := p.node(shelf, "a")
		p.want(t, "a alone", "a")
		document, _, _ := shelf.Load(t.Context(), "lease/kc")
		if s := string(document); !strings.HasPrefix(s, `{"holder":"`) || strings.Count(s, ":") != 1 {
			t.Errorf("got the document %s, want the holder alone", s)
		}
		stop()
	})
}

func TestLeaseRunsAgainAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf, p := newShelf(), &pollers{}
		stop, fail := p.node(shelf, "a")
		p.want(t, "a alone", "a")
		fail <- errors.New("the poll failed")
		p.want(t, "after the error")
		time.Sleep(runPause + 2*leaseLook)
		p.want(t, "a little later", "a")
		stop()
	})
}

// A renewal whose answer was lost is this node's all the same.
func TestLeaseSurvivesALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf, p := newShelf(), &pollers{}
		stop, _ := p.node(&lostAnswers{Shelf: shelf}, "a")
		time.Sleep(time.Minute)
		p.want(t, "a minute later", "a")
		if len(p.history) != 1 {
			t.Errorf("got %d begins, want one", len(p.history))
		}
		stop()
	})
}

// lostAnswers saves, and loses the answer of every third save.
type lostAnswers struct {
	Shelf
	saves int
}

func (l *lostAnswers) Save(ctx context.Context, name string, document []byte, version uint64) (uint64, error) {
	version, err := l.Shelf.Save(ctx, name, document, version)
	if l.saves++; l.saves%3 == 0 && err == nil {
		return 0, errBroken
	}
	return version, err
}

// A node that is alone polls at once, and again after an error.
func TestRunAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		begun, runs := time.Now(), []time.Duration{}
		RunAlone(ctx, slog.New(slog.DiscardHandler), func(context.Context) error {
			if runs = append(runs, time.Since(begun)); len(runs) == 3 {
				stop()
			}
			return errors.New("the sender is gone")
		})
		if want := []time.Duration{0, runPause, 2 * runPause}; !slices.Equal(runs, want) {
			t.Errorf("got runs after %v, want them after %v", runs, want)
		}
	})
}
