// Package alert is what becomes of alerts at the control endpoint: they are
// gathered from the replicas, kept, listed, and handed on to whoever should
// know.
//
// # One alert
//
// What replicas report under one key within a window is one alert, whose count
// grows; seen again in the next window, it is a new one, so that something
// that goes on for days is heard of more than once. The ID follows from the
// key and the window: another control node, or this one after it lost its
// memory, gives the same thing the same ID. Nodes tell each other what they
// keep, so that any of them can be asked; the one that it was reported to hands
// it on.
//
// # What is kept
//
// The newest 10,000, in memory and in one file that is replaced as a whole.
// [Inbox.Take] returns when they are in it. To write 10 MB for each alert of a
// flood would take the machine, so writing takes a tenth of the time at most,
// and what comes meanwhile is written together. Whoever is told, is told
// before that.
//
// When the inbox is full, the oldest of the detector with the most goes: a
// flood of one kind does not wash away the others.
//
// # At least once
//
// The file says which target has not been told of which alert yet. A [Target]
// is told in the order of the alerts, one at a time, again with growing pauses
// until it takes the alert, refuses it for good, or a day has passed. After a
// crash it may be told again; the ID says that it is the same.
//
// # Trust
//
// The inbox cleans a report once more before it keeps it. A target is believed
// about whether it took an alert. Nothing from a token gets into a log, the
// label of a metric or a header.
//
// Any holder of a feed credential can make up alerts. So the inbox notes which
// credential and which replica reported an alert, by the knowledge of the
// control endpoint. An alert about an issuer is hearsay until a replica reports
// it that also reports that it accepts this issuer. Hearsay is kept and shown,
// but no target that demands more is told of it (see [Target]).
package alert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/insight"
)

// Defaults and bounds.
const (
	DefaultWindow = time.Hour
	maxAlerts     = 10_000
	maxTargets    = 64
)

// Options are what an inbox needs to know.
type Options struct {
	File    string // where alerts are kept; default: only in memory
	Window  time.Duration
	Targets []Target

	Registerer prometheus.Registerer // default: no figures
	Logger     *slog.Logger          // default: discards

	most int
}

// Inbox has the alerts. It is safe for concurrent use.
type Inbox struct {
	file    string
	window  time.Duration
	most    int
	logger  *slog.Logger
	figures *figures
	targets []*courier
	stale   chan struct{} // holds one token when the file is to be written

	end     context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	records []*record // oldest first
	byID    map[string]*record
	counts  map[insight.Detector]int // of records
	last    uint64                   // number of a record
	waiting []chan<- error           // for the file to be written
	late    bool                     // something has changed that can wait
	closed  bool
}

// record is an alert and who has yet to be told. The alert is replaced when it
// grows; what slices it has stay as they are.
type record struct {
	number  uint64
	alert   insight.Alert
	pending []string // names of targets; replaced, not changed
}

// Open makes an inbox, with what its file has.
func Open(o Options) (*Inbox, error) {
	in := &Inbox{
		file: o.File, window: o.Window, most: o.most, logger: o.Logger, stale: make(chan struct{}, 1),
		byID: map[string]*record{}, counts: map[insight.Detector]int{},
	}
	if in.window <= 0 {
		in.window = DefaultWindow
	}
	if in.most <= 0 {
		in.most = maxAlerts
	}
	if in.logger == nil {
		in.logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Targets) > maxTargets {
		return nil, errors.New("there are too many whom alerts are handed on to")
	}
	for _, t := range o.Targets {
		in.targets = append(in.targets, newCourier(in, t))
	}
	var err error
	if in.figures, err = newFigures(o.Registerer, o.Targets); err != nil {
		return nil, err
	}
	if err := in.load(); err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	in.end = end
	if in.file != "" {
		in.running.Go(func() { in.write(ctx) })
	}
	for _, c := range in.targets {
		in.running.Go(func() { c.run(ctx) })
	}
	return in, nil
}

// Close writes what there is, and ends. Who has not been told yet is told
// after the next start.
func (in *Inbox) Close() error {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.end()
	in.running.Wait()
	return nil
}

var errClosed = errors.New("the control endpoint is shutting down")

// Reporter is the replica that reports alerts, as the control endpoint knows
// it. Nothing of it comes from the alerts.
type Reporter struct {
	Replica    string   // its name
	Credential string   // the name of its feed credential
	Issuers    []string // those whose tokens it accepts; nil: it reports none
}

// Take keeps the alerts that a replica reports. They are kept when it returns
// nil. Take notes the reporter in alerts, so that the caller can pass them on to
// other nodes.
func (in *Inbox) Take(ctx context.Context, from Reporter, alerts []insight.Alert) error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return errClosed
	}
	for i := range alerts {
		alerts[i].Credentials = []string{from.Credential}
		alerts[i].Hearsay = !slices.Contains(from.Issuers, alerts[i].Issuer)
	}
	taken := in.takeFrom(from.Replica, alerts, true)
	in.figures.refused.Add(float64(len(alerts) - taken))
	var written chan error
	if in.file != "" && taken > 0 {
		written = make(chan error, 1)
		in.waiting = append(in.waiting, written)
		in.touch()
	}
	in.mu.Unlock()
	for _, c := range in.targets {
		c.stir()
	}
	if written == nil {
		return nil
	}
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Heard takes alerts that another control node keeps and hands on, with the
// reporter that the other node noted in them. They are known here too then, but
// they may be lost.
func (in *Inbox) Heard(replica string, alerts []insight.Alert) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed && in.takeFrom(replica, alerts, false) > 0 {
		in.late = true
	}
}

// takeFrom makes those known that are sound, and says how many. The caller
// holds mu.
func (in *Inbox) takeFrom(replica string, alerts []insight.Alert, here bool) (taken int) {
	now := time.Now().UTC()
	for _, a := range alerts {
		a.Replicas = []string{replica}
		if a, ok := sound(a, now); ok {
			in.take(a, here)
			taken++
		}
	}
	return taken
}

// sound cleans an alert, and moves what is to come into the present.
func sound(a insight.Alert, now time.Time) (insight.Alert, bool) {
	a.ID = ""
	if a.Last.IsZero() || a.Last.After(now) {
		a.Last = now
	}
	if a.First.IsZero() || a.First.After(a.Last) {
		a.First = a.Last
	}
	a.First, a.Last = a.First.UTC(), a.Last.UTC()
	return a.Clean()
}

// take makes a known. If it is new here, or was hearsay until now, it is queued
// for its targets. The caller holds mu.
func (in *Inbox) take(a insight.Alert, here bool) {
	a.ID = in.idOf(&a)
	if r := in.byID[a.ID]; r != nil {
		in.grow(r, a, here)
		return
	}
	r := &record{alert: a}
	if here {
		in.address(r, func(*Target) bool { return true })
		in.figures.alerts.WithLabelValues(string(a.Detector)).Inc()
		if a.Hearsay {
			in.figures.hearsay.Inc()
		}
	}
	in.add(r)
}

// grow adds a sighting to an alert. The first that is not hearsay replaces the
// facts of one that is, so that a made-up report can neither choose the token
// that an action revokes nor keep the action from being carried out. The caller
// holds mu.
func (in *Inbox) grow(r *record, a insight.Alert, here bool) {
	if !r.alert.Hearsay || a.Hearsay {
		r.alert = insight.MergeAlerts(r.alert, a)
		return
	}
	r.alert = insight.MergeAlerts(a, r.alert)
	if here {
		in.address(r, func(t *Target) bool { return t.NoHearsay })
	}
}

// address queues r for those of some targets that are to be told of it. The
// caller holds mu.
func (in *Inbox) address(r *record, some func(*Target) bool) {
	before := slices.ContainsFunc(in.records, func(o *record) bool {
		return o != r && o.alert.Key == r.alert.Key && (!o.alert.Hearsay || r.alert.Hearsay)
	})
	for _, c := range in.targets {
		t := &c.target
		if some(t) && t.wants(&r.alert) && (!before || !t.OncePerKey) {
			c.add(r)
		}
	}
}

// idOf follows from the key and the window of the last sighting.
func (in *Inbox) idOf(a *insight.Alert) string {
	b := binary.BigEndian.AppendUint64([]byte(a.Key), uint64(a.Last.UnixNano()/int64(in.window)))
	sum := sha256.Sum256(b)
	return "a" + hex.EncodeToString(sum[:10])
}

// add makes room for r, and puts it at the end. The caller holds mu.
func (in *Inbox) add(r *record) {
	if len(in.records) >= in.most {
		in.drop()
	}
	if r.number == 0 {
		in.last++
		r.number = in.last
	}
	in.last = max(in.last, r.number)
	in.records = append(in.records, r)
	in.byID[r.alert.ID] = r
	in.counts[r.alert.Detector]++
}

// drop forgets the oldest alert of the detector that has the most.
func (in *Inbox) drop() {
	most := in.records[0].alert.Detector
	for d, n := range in.counts {
		if n > in.counts[most] {
			most = d
		}
	}
	i := slices.IndexFunc(in.records, func(r *record) bool { return r.alert.Detector == most })
	r := in.records[i]
	in.records = slices.Delete(in.records, i, i+1)
	in.counts[most]--
	delete(in.byID, r.alert.ID)
	for _, name := range r.pending {
		in.figures.deliveries.WithLabelValues(name, resultDropped).Inc()
	}
	r.pending = nil
}

// Query chooses from the alerts. The zero value chooses all.
type Query struct {
	Issuers  []string // nil: any, and none
	Detector insight.Detector
	Since    time.Time // of the last sighting
	Before   uint64    // number, as in a Page
	After    string    // only those newer than the alert with this ID
	Limit    int
}

// Page is some alerts, newest first.
type Page struct {
	Items []insight.Alert
	Next  uint64 // for Query.Before; 0: there are no more
}

// List is the newest alerts that the query chooses. Alerts that come later do
// not move what comes before a number, nor does one that grows change its
// place. An alert that is gone is older than all that are there.
func (in *Inbox) List(q Query) (p Page) {
	q.Limit = max(q.Limit, 1)
	in.mu.Lock()
	defer in.mu.Unlock()
	after := uint64(0)
	if r := in.byID[q.After]; r != nil {
		after = r.number
	}
	var last uint64
	for _, r := range slices.Backward(in.records) {
		a := &r.alert
		switch {
		case r.number <= after:
			return p
		case q.Before > 0 && r.number >= q.Before,
			q.Detector != "" && a.Detector != q.Detector,
			a.Last.Before(q.Since),
			q.Issuers != nil && !slices.Contains(q.Issuers, a.Issuer):
			continue
		case len(p.Items) == q.Limit:
			p.Next = last
			return p
		}
		last = r.number
		p.Items = append(p.Items, *a)
	}
	return p
}
