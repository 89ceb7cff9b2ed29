// Package gate runs decisions for a front end, such as Envoy's ext_authz. The
// front end reads a request and writes an answer in its own protocol. The gate
// does everything in between that no front end may forget.
//
// # Failure
//
// [Gate.Decide] denies when anything panics: the front end's reading, the
// decision, or the front end's writing. A front end that cannot write even that
// denial must hold an answer that denies without any computation, because the
// gate then returns without a written answer.
//
// # Observing
//
// Observers see every decision after the answer has been written, so an
// observer cannot change an answer. They run on the path of the request: an
// observer must not block and must not keep the request or the decision.
// Metrics count every decision, even if an observer panics. A panic of an observer
// leaves out that observation and no other.
//
// A gateway that answers by itself makes the same decision many times. The gate shows
// each to the trace and the observers, and all of them at once to the watch and the
// metrics.
//
// # The answer to a denial
//
// [DenialOf] returns the HTTP response to a denied request: the challenge of RFC
// 6750, a JSON body and the status. Nothing in it comes from the request.
package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
	"rescind/revocation/linelimit"
)

// Options of a [Gate].
type Options struct {
	Authorizer *authz.Authorizer
	Registerer prometheus.Registerer // nil: no metrics
	// Trace, if not nil, may record each decision in a trace. It returns the
	// span of the decision, or the zero SpanContext if it recorded none.
	Trace     func(context.Context, Observation) trace.SpanContext
	Observers []func(context.Context, Observation)
	// Watch, if not nil, sees every decision, and those of [Gate.ObserveUses] at once:
	// their number, the time of the first, and the time of the last in At.
	Watch  func(o Observation, first time.Time, times int)
	Logger *slog.Logger // nil: slog.Default()
}

// Observation is a decision with its request and its times.
type Observation struct {
	Request  *authz.Request // nil if the request could not be read
	Decision *authz.Decision
	At       time.Time // when the gate began to read the request
	Took     time.Duration
	Span     trace.SpanContext // of the decision; zero if no trace recorded it
}

// Use is one of the requests of [Gate.ObserveUses].
type Use struct {
	At time.Time
	ID authz.GatewayID // of the decision
}

// Gate runs decisions. It is safe for concurrent use.
type Gate struct {
	authorizer atomic.Pointer[authz.Authorizer]
	metrics    *metrics
	trace      func(context.Context, Observation) trace.SpanContext
	observers  []func(context.Context, Observation)
	watch      func(o Observation, first time.Time, times int)
	lines      lines
}

// New returns a gate that decides with o.Authorizer.
func New(o Options) (*Gate, error) {
	if o.Authorizer == nil {
		return nil, errors.New("a gate needs an authorizer")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	g := &Gate{metrics: newMetrics(), trace: o.Trace, observers: o.Observers, watch: o.Watch, lines: newLines(o.Logger)}
	if o.Registerer != nil {
		if err := g.metrics.register(o.Registerer); err != nil {
			return nil, err
		}
	}
	g.Replace(o.Authorizer)
	return g, nil
}

// Replace puts another authorizer in force for every decision that begins later.
func (g *Gate) Replace(a *authz.Authorizer) { g.authorizer.Store(a) }

// Authorizer returns the authorizer in force.
func (g *Gate) Authorizer() *authz.Authorizer { return g.authorizer.Load() }

// Decide reads a request, decides about it, and writes the answer.
//
// read returns the request. It returns a reason as well if the request is
// denied without a decision, for example [authz.BadRequest] and no request if
// the bytes cannot be read.
//
// write is called with the decision, and with the request or nil. It is called
// a second time, for a denial, if it panics.
func (g *Gate) Decide(ctx context.Context, read func() (*authz.Request, authz.Reason), write func(*authz.Request, *authz.Decision)) {
	m := moments.Get().(*moment)
	m.At = time.Now()
	m.Decision = &m.decision
	g.decide(ctx, &m.Observation, read, write)
	m.Took = time.Since(m.At)
	g.Observe(ctx, m.Observation)
	*m = moment{} // nobody keeps it
	moments.Put(m)
}

// moment is the memory of one observation.
type moment struct {
	Observation
	decision authz.Decision
}

var moments = sync.Pool{New: func() any { return new(moment) }}

// decide is the panic barrier. It fills in o.Request as soon as there is one, and the
// decision.
func (g *Gate) decide(ctx context.Context, o *Observation, read func() (*authz.Request, authz.Reason), write func(*authz.Request, *authz.Decision)) {
	d := o.Decision
	defer func() {
		if p := recover(); p != nil {
			*d = authz.Decision{Reason: authz.Internal, ID: rand.Text()}
			logPanic(g.lines.check, d, p)
			g.writeDenial(o.Request, d, write)
		}
	}()
	r, refused := read()
	o.Request = r
	if refused != "" {
		*d = g.authorizer.Load().Refuse(r, refused)
	} else {
		*d = g.authorizer.Load().Authorize(ctx, r)
	}
	if d.Reason == authz.Internal && d.Detail != "" { // without a detail the authorizer has logged it
		g.lines.failure.Log(slog.String("decision_id", d.ID), slog.String("detail", d.Detail))
	}
	write(r, d)
}

// writeDenial writes the denial that follows a panic. The write may be the part
// that panics, so it has a barrier of its own.
func (g *Gate) writeDenial(r *authz.Request, d *authz.Decision, write func(*authz.Request, *authz.Decision)) {
	defer func() {
		if p := recover(); p != nil {
			logPanic(g.lines.denial, d, p)
		}
	}()
	write(r, d)
}

// Observe hands a decision whose answer is written to the trace, the observers, the
// watch and the metrics.
func (g *Gate) Observe(ctx context.Context, o Observation) {
	g.show(ctx, &o)
	g.count(&o, o.At, 1)
}

// ObserveUses observes a decision that a gateway made about several requests alike. It
// writes the ID of each into o.Decision.
func (g *Gate) ObserveUses(ctx context.Context, o Observation, uses []Use) {
	if len(uses) == 0 {
		return
	}
	first, last := uses[0].At, uses[0].At
	for i := range uses {
		o.Decision.GatewayID, o.At = uses[i].ID, uses[i].At
		g.show(ctx, &o)
		if o.At.Before(first) {
			first = o.At
		}
		if o.At.After(last) {
			last = o.At
		}
	}
	o.At = last
	g.count(&o, first, len(uses))
}

// show hands one decision to the trace and the observers.
func (g *Gate) show(ctx context.Context, o *Observation) {
	defer g.survive(o.Decision)
	if g.trace != nil {
		o.Span = g.trace(ctx, *o)
	}
	for _, observe := range g.observers {
		observe(ctx, *o)
	}
}

// count hands decisions alike to the watch and the metrics.
func (g *Gate) count(o *Observation, first time.Time, times int) {
	defer g.survive(o.Decision)
	defer g.metrics.observe(o, float64(times))
	if g.watch != nil {
		g.watch(*o, first, times)
	}
}

// survive is deferred. It ends a panic of an observer.
func (g *Gate) survive(d *authz.Decision) {
	if p := recover(); p != nil {
		logPanic(g.lines.observer, d, p)
	}
}

// faultLines is how many lines a second each kind of fault has. A client that finds
// a fault can cause it with every request, and a stack is long.
const faultLines = 10

// lines are the log of faults.
type lines struct{ check, denial, observer, failure *linelimit.Limit }

func newLines(log *slog.Logger) lines {
	of := func(message string) *linelimit.Limit {
		return linelimit.New(log, slog.LevelError, message, faultLines)
	}
	return lines{
		check: of("check panicked, request denied"), denial: of("writing a denial panicked"),
		observer: of("observer panicked"), failure: of("decision failed, request denied"),
	}
}

// logPanic logs the stack and the type of a panic. It does not log the value,
// because the value may quote the request.
func logPanic(l *linelimit.Limit, d *authz.Decision, p any) {
	l.Log(slog.String("decision_id", d.IDText()), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
}
