package jwks

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures are the metrics of all issuers. A nil *Figures counts nothing.
//
// A reload opens the new [Keys] of an issuer before it closes the old ones, or
// closes the new ones if it is refused. The newest Keys that are open write the
// figures of the issuer.
type Figures struct {
	keys        *prometheus.GaugeVec
	refreshes   *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
	skips       *prometheus.CounterVec

	mu   sync.Mutex
	open map[string][]*Keys // by issuer, the newest last
}

// NewFigures registers the metrics.
func NewFigures(r prometheus.Registerer) (*Figures, error) {
	f := &Figures{
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rescind_jwks_keys",
			Help: "Keys of the issuer that can verify tokens."}, []string{"issuer"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rescind_jwks_refreshes_total",
			Help: "Fetches of the issuer's keys, by result: success or failure."}, []string{"issuer", "result"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rescind_jwks_last_success_timestamp_seconds",
			Help: "When the issuer last published its keys; 0: never."}, []string{"issuer"}),
		skips: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rescind_jwks_keys_skipped_total",
			Help: "Published keys that are not used, counted with each refresh."}, []string{"issuer", "reason"}),
		open: map[string][]*Keys{},
	}
	for _, c := range []prometheus.Collector{f.keys, f.refreshes, f.lastSuccess, f.skips} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// takeOver makes k the writer of the figures of its issuer.
func (f *Figures) takeOver(k *Keys) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[k.o.Issuer] = append(f.open[k.o.Issuer], k)
	for _, result := range []string{"success", "failure"} {
		f.refreshes.WithLabelValues(k.o.Issuer, result)
	}
	f.show(nil, k.o.Issuer)
}

// release gives the figures of the issuer back to the Keys that were open before k.
// It deletes the figures if there are none.
func (f *Figures) release(k *Keys) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	open := slices.DeleteFunc(f.open[k.o.Issuer], func(o *Keys) bool { return o == k })
	if len(open) > 0 {
		f.open[k.o.Issuer] = open
		f.show(open[len(open)-1].current.Load(), k.o.Issuer)
		return
	}
	delete(f.open, k.o.Issuer)
	of := prometheus.Labels{"issuer": k.o.Issuer}
	f.keys.DeletePartialMatch(of)
	f.refreshes.DeletePartialMatch(of)
	f.lastSuccess.DeletePartialMatch(of)
	f.skips.DeletePartialMatch(of)
}

func (f *Figures) adopted(k *Keys, s *set) {
	f.by(k, func() { f.show(s, k.o.Issuer) })
}

// show writes the figures of the keys in use; nil stands for none. The caller holds
// mu.
func (f *Figures) show(s *set, issuer string) {
	size, at := 0, 0.0
	if s != nil {
		size, at = len(s.keys), float64(s.at.UnixMilli())/1000
	}
	f.keys.WithLabelValues(issuer).Set(float64(size))
	f.lastSuccess.WithLabelValues(issuer).Set(at)
}

func (f *Figures) refreshed(k *Keys, good bool) {
	result := "failure"
	if good {
		result = "success"
	}
	f.by(k, func() { f.refreshes.WithLabelValues(k.o.Issuer, result).Inc() })
}

func (f *Figures) skipped(k *Keys, skip skipped) {
	f.by(k, func() {
		for _, key := range skip {
			f.skips.WithLabelValues(k.o.Issuer, string(key.fault)).Inc()
		}
	})
}

func (f *Figures) by(k *Keys, write func()) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if open := f.open[k.o.Issuer]; len(open) > 0 && open[len(open)-1] == k {
		write()
	}
}
