// Package alert keeps the alerts that replicas report to the control endpoint,
// lists them, and delivers them to targets: webhooks, Alertmanagers, actions.
//
// # One alert
//
// Reports under one key within a window are one alert, whose count grows. A
// report in the next window is a new alert, so that targets hear more than once
// of something that goes on for days. The ID follows from the key and the
// window. Another control node, or this node after it lost its memory, gives
// the alert the same ID. Each node tells the others of its alerts, so that any
// node can list all of them. The node that got the report delivers the alert.
//
// # Storage
//
// The inbox keeps the newest 10,000 alerts, in memory and in one file that it
// replaces as a whole. [Inbox.Take] returns when its alerts are in the file. To
// write 10 MB for each alert of a flood would take the machine, so the inbox
// writes for a tenth of the time at most, and writes together the alerts that
// come meanwhile. Targets are told without waiting for the file.
//
// When the inbox is full, it drops the oldest alert of the detector with the
// most alerts. A flood of one kind does not wash away the others.
//
// # At least once
//
// The file says which target still has to be told of which alert. The inbox
// tells a [Target] one alert at a time, in their order. It repeats a delivery
// with growing pauses until the target takes the alert or refuses it for good,
// or until a day has passed. After a crash it may repeat a delivery; the ID is
// then the same.
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
	"fmt"
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

// Options of an [Inbox].
type Options struct {
	File    string // keeps the alerts; default: memory alone
	Window  time.Duration
	Targets []Target

	Registerer prometheus.Registerer // default: metrics are not registered
	Logger     *slog.Logger          // default: discards

	most int
}

// Inbox keeps the alerts. It is safe for concurrent use.
type Inbox struct {
	file    string
	window  time.Duration
	most    int
	logger  *slog.Logger
	metrics *metrics
	targets []*courier
	stale   chan struct{} // holds one token when the file has to be written

	end     context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	records []*record // oldest first
	byID    map[string]*record
	counts  map[insight.Detector]int // of records
	last    uint64                   // number of a record
	waiting []chan<- error           // callers that wait for the file
	dirty   bool                     // a change that can wait is not in the file
	closed  bool
}

// record is an alert and the targets that still have to be told. An alert that
// grows is replaced; its slices are never changed.
type record struct {
	number  uint64
	alert   insight.Alert
	pending []string // names of targets; replaced, not changed
}

// Open returns an inbox with the alerts of its file.
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
		return nil, fmt.Errorf("alerts have %d targets; at most %d are possible", len(o.Targets), maxTargets)
	}
	for _, t := range o.Targets {
		in.targets = append(in.targets, newCourier(in, t))
	}
	var err error
	if in.metrics, err = newMetrics(o.Registerer, o.Targets); err != nil {
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

// Close writes the file and ends the deliveries. Those that are left are made
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
	in.metrics.refused.Add(float64(len(alerts) - taken))
	var written chan error
	if in.file != "" && taken > 0 {
		written = make(chan error, 1)
		in.waiting = append(in.waiting, written)
		in.markStale()
	}
	in.mu.Unlock()
	for _, c := range in.targets {
		c.wakeUp()
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

// TakeFromNode takes alerts that another control node keeps and hands on, with the
// reporter that the other node noted in them. They are known here too then, but
// they may be lost.
func (in *Inbox) TakeFromNode(replica string, alerts []insight.Alert) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed && in.takeFrom(replica, alerts, false) > 0 {
		in.dirty = true
	}
}

// takeFrom takes in the alerts that are sound, and returns their number. The
// caller holds mu.
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

// sound returns a cleaned alert whose times do not lie in the future. It is not
// ok if the alert makes no sense.
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

// take takes in an alert. One that is new here, or was hearsay until now, is
// queued for its targets. The caller holds mu.
func (in *Inbox) take(a insight.Alert, here bool) {
	a.ID = in.idOf(&a)
	if r := in.byID[a.ID]; r != nil {
		in.grow(r, a, here)
		return
	}
	r := &record{alert: a}
	if here {
		in.address(r, func(*Target) bool { return true })
		in.metrics.alerts.WithLabelValues(string(a.Detector)).Inc()
		if a.Hearsay {
			in.metrics.hearsay.Inc()
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

// idOf returns the ID that follows from the key and the window of the last
// sighting.
func (in *Inbox) idOf(a *insight.Alert) string {
	b := binary.BigEndian.AppendUint64([]byte(a.Key), uint64(a.Last.UnixNano()/int64(in.window)))
	sum := sha256.Sum256(b)
	return "a" + hex.EncodeToString(sum[:10])
}

// add makes room for r and appends it. The caller holds mu.
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

// drop forgets the oldest alert of the detector that has the most. The caller
// holds mu.
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
		in.metrics.deliveries.WithLabelValues(name, resultDropped).Inc()
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

// Page is one page of alerts, newest first.
type Page struct {
	Items []insight.Alert
	Next  uint64 // for Query.Before; 0: this is the last page
}

// List returns the newest alerts that the query chooses. A page stays the same
// while alerts come and grow, because an alert keeps its number. An unknown
// Query.After counts as older than all alerts.
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
