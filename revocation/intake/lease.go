package intake

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// Times of a lease.
const (
	leaseTime  = 4 * time.Second        // after which a silent holder has lost the lease
	leaseRenew = time.Second            // between two renewals
	leaseLook  = 500 * time.Millisecond // between two looks at the lease of another node
	runPause   = time.Second            // after a run that ended with an error
)

// Lease lets one of several nodes run a poller. A node that wants the lease
// watches the version of its document. If the version stays the same for the time
// of the lease, by the clock of the watcher, the holder is gone. No instant is
// compared between nodes, so a clock that is off stops nothing.
//
// A holder that was suspended may run a little longer than its lease. Then two
// nodes poll for a moment. The position of a poller is a document of its own with
// a version, and a repeated event does nothing, so this does no harm.
type Lease struct {
	shelf  Shelf
	name   string
	id     string // of this process
	logger *slog.Logger
}

// NewLease returns the lease of a name. All nodes that share the shelf share it.
func NewLease(shelf Shelf, name string, logger *slog.Logger) *Lease {
	return &Lease{shelf: shelf, name: "lease/" + name, id: rand.Text(), logger: logger}
}

// RunAlone calls run until ctx ends, and again if it returns an error. It is for a
// node without others, which needs no lease and so polls at once after a restart.
func RunAlone(ctx context.Context, logger *slog.Logger, run func(context.Context) error) {
	for ctx.Err() == nil {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			logger.Warn("poller ended, it begins again", "error", err)
		}
		sleep(ctx, runPause)
	}
}

// leaseDocument is the lease on the shelf.
type leaseDocument struct {
	Holder string `json:"holder"` // empty: the last holder has given it back
}

// Run calls run while this node holds the lease, until ctx ends. It calls run
// again if run returns an error. The context of run ends with the lease.
func (l *Lease) Run(ctx context.Context, run func(context.Context) error) {
	for ctx.Err() == nil {
		version, ok := l.acquire(ctx)
		if !ok {
			return
		}
		l.logger.Info("lease taken", "lease", l.name)
		err := l.hold(ctx, version, run)
		if ctx.Err() == nil {
			l.logger.Warn("lease ended", "lease", l.name, "error", err)
			sleep(ctx, runPause)
		}
	}
}

// acquire waits for the lease, and returns the version of its document. It
// reports false once ctx has ended.
func (l *Lease) acquire(ctx context.Context) (version uint64, ok bool) {
	seen, since := uint64(0), time.Now()
	for ctx.Err() == nil {
		document, version, err := l.shelf.Load(ctx, l.name)
		var d leaseDocument
		switch {
		case err != nil:
			since = time.Now() // it may have been renewed meanwhile
		case version == 0 || json.Unmarshal(document, &d) == nil && d.Holder == "":
			since = time.Time{}
		case version != seen:
			seen, since = version, time.Now()
		}
		if err == nil && time.Since(since) >= leaseTime {
			if version, err = l.save(ctx, l.id, version); err == nil {
				return version, true
			}
			seen, since = 0, time.Now()
		}
		sleep(ctx, leaseLook)
	}
	return 0, false
}

func (l *Lease) save(ctx context.Context, holder string, version uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	document, err := json.Marshal(leaseDocument{holder})
	if err != nil {
		return 0, err
	}
	return l.shelf.Save(ctx, l.name, document, version)
}

// errLost says that the lease could not be renewed in time.
var errLost = errors.New("another node may have taken the lease")

// hold runs run and renews the lease meanwhile. At the end it gives the lease
// back, so that another node need not wait.
func (l *Lease) hold(ctx context.Context, version uint64, run func(context.Context) error) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() { ended <- run(running) }()
	err := l.renew(running, &version, ended)
	stop(err)
	if errors.Is(err, errLost) {
		<-ended //nolint:errcheck // its error is that of the lost lease
		return err
	}
	giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseRenew)
	defer cancel()
	_, _ = l.save(giving, "", version) // otherwise it runs out
	return err
}

// renew renews the lease until run has ended, and returns the error of run. It
// returns errLost once another node may have the lease.
func (l *Lease) renew(ctx context.Context, version *uint64, ended <-chan error) error {
	renewed := time.Now()
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
		begun := time.Now()
		next, err := l.save(ctx, l.id, *version)
		switch {
		case err == nil:
			*version, renewed = next, begun
		case ctx.Err() != nil: // run ends too
		case time.Since(renewed) > leaseTime-leaseRenew, errors.Is(err, ErrChanged) && !l.mine(ctx, version):
			return errLost
		}
	}
}

// mine reports whether the document is still this node's. A renewal whose answer
// was lost has changed its version.
func (l *Lease) mine(ctx context.Context, version *uint64) bool {
	document, now, err := l.shelf.Load(ctx, l.name)
	var d leaseDocument
	if err != nil || json.Unmarshal(document, &d) != nil || d.Holder != l.id {
		return false
	}
	*version = now
	return true
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
