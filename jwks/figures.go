package jwks

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures are the metrics of all issuers. A nil *Figures counts nothing.
//
// A reload opens the new [Keys] of an issuer before it closes the old ones. Only
// the newest Keys write the figures of the issuer. They are in owner.
type Figures struct {
	keys        *prometheus.GaugeVec
	refreshes   *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
	skips       *prometheus.CounterVec

	mu    sync.Mutex
	owner map[string]*Keys
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
		owner: map[string]*Keys{},
	}
	for _, c := range []prometheus.Collector{f.keys, f.refreshes, f.lastSuccess, f.skips} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// takeOver makes k the owner of the figures of its issuer.
func (f *Figures) takeOver(k *Keys) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner[k.o.Issuer] = k
	for _, result := range []string{"success", "failure"} {
		f.refreshes.WithLabelValues(k.o.Issuer, result)
	}
	f.keys.WithLabelValues(k.o.Issuer).Set(0)
	f.lastSuccess.WithLabelValues(k.o.Issuer).Set(0)
}

// release deletes the figures of the issuer, unless other Keys have taken over.
func (f *Figures) release(k *Keys) {
	f.by(k, func() {
		delete(f.owner, k.o.Issuer)
		of := prometheus.Labels{"issuer": k.o.Issuer}
		f.keys.DeletePartialMatch(of)
		f.refreshes.DeletePartialMatch(of)
		f.lastSuccess.DeletePartialMatch(of)
		f.skips.DeletePartialMatch(of)
	})
}

func (f *Figures) adopted(k *Keys, s *set) {
	f.by(k, func() {
		f.keys.WithLabelValues(k.o.Issuer).Set(float64(len(s.keys)))
		f.lastSuccess.WithLabelValues(k.o.Issuer).Set(float64(s.at.UnixMilli()) / 1000)
	})
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
	if f.owner[k.o.Issuer] == k {
		write()
	}
}
