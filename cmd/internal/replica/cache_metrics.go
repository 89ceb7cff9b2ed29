package replica

import (
	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz/gate"
	"rescind/authz/tokencache"
)

// cacheMetrics exposes the memory of verified tokens as metrics. A reload begins a
// new memory, and the counts go on.
type cacheMetrics struct {
	gate   *gate.Gate
	counts *tokencache.Counts
}

var (
	hitsDesc      = prometheus.NewDesc("rescind_token_cache_hits_total", "Requests with a token that was not verified again.", nil, nil)
	missesDesc    = prometheus.NewDesc("rescind_token_cache_misses_total", "Requests with a token that was verified, or refused before that.", nil, nil)
	evictionsDesc = prometheus.NewDesc("rescind_token_cache_evictions_total", "Verified tokens that made room for others. Tokens that had ended do not count.", nil, nil)
	bytesDesc     = prometheus.NewDesc("rescind_token_cache_bytes", "Size of the verified tokens that are remembered.", nil, nil)
	entriesDesc   = prometheus.NewDesc("rescind_token_cache_entries", "Verified tokens that are remembered.", nil, nil)
)

func (m cacheMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hitsDesc, missesDesc, evictionsDesc, bytesDesc, entriesDesc} {
		out <- d
	}
}

func (m cacheMetrics) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	gauge := func(d *prometheus.Desc, n int) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	counter(hitsDesc, m.counts.Hits.Value())
	counter(missesDesc, m.counts.Misses.Value())
	counter(evictionsDesc, m.counts.Evictions.Value())
	bytes, tokens := m.gate.Authorizer().CacheSize()
	gauge(bytesDesc, bytes)
	gauge(entriesDesc, tokens)
}
