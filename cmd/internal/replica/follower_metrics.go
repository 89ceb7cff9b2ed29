package replica

import (
	"github.com/prometheus/client_golang/prometheus"

	revset "rescind/revocation/replica"
)

// followerMetrics exposes the state of a follower as metrics.
type followerMetrics struct{ *revset.Follower }

var (
	revocationsDesc = prometheus.NewDesc("rescind_revocations", "Revocations held.", nil, nil)
	revisionDesc    = prometheus.NewDesc("rescind_revision", "Revision of the revocations held.", nil, nil)
	connectedDesc   = prometheus.NewDesc("rescind_feed_connected", "Whether the feed is connected: 1 or 0.", nil, nil)
	contactDesc     = prometheus.NewDesc("rescind_feed_last_contact_timestamp_seconds", "When the control endpoint was last heard of; 0 if never.", nil, nil)
	staleDesc       = prometheus.NewDesc("rescind_stale", "Whether the revocations are older than they should be: 1 or 0.", nil, nil)
	overdueDesc     = prometheus.NewDesc("rescind_overdue", "Whether the revocations are older than max_staleness: 1 or 0. With on_stale: deny everything is then denied.", nil, nil)
	diskErrorDesc   = prometheus.NewDesc("rescind_disk_error", "Whether the copy on disk, for the next start, lacks revocations that memory has: 1 or 0.", nil, nil)
	refusedDesc     = prometheus.NewDesc("rescind_feed_refused", "Whether the control endpoint is not followed because its log is another one or an older copy: 1 or 0.", nil, nil)
	positivesDesc   = prometheus.NewDesc("rescind_filter_positives_total", "Look-ups that the filter did not answer: held, or false positives.", []string{"result"}, nil)
)

func (f followerMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{revocationsDesc, revisionDesc, connectedDesc, contactDesc, staleDesc, overdueDesc, diskErrorDesc, refusedDesc, positivesDesc} {
		out <- d
	}
}

func (f followerMetrics) Collect(out chan<- prometheus.Metric) {
	s := f.Status()
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(revocationsDesc, float64(s.Entries))
	gauge(revisionDesc, float64(s.Revision))
	contact := 0.0
	if !s.LastContact.IsZero() {
		contact = float64(s.LastContact.UnixMicro()) / 1e6
	}
	gauge(connectedDesc, truth(s.Connected))
	gauge(contactDesc, contact)
	gauge(staleDesc, truth(s.Stale))
	gauge(overdueDesc, truth(s.Overdue))
	gauge(diskErrorDesc, truth(s.DiskError != ""))
	gauge(refusedDesc, truth(s.Refused != ""))
	out <- prometheus.MustNewConstMetric(positivesDesc, prometheus.CounterValue, float64(s.FilterHeld), "held")
	out <- prometheus.MustNewConstMetric(positivesDesc, prometheus.CounterValue, float64(s.FilterFalse), "false")
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
