package replica

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestFollowerMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	must(t, 0, registry.Register(followerMetrics{follower(t)}))
	families, err := registry.Gather()
	got := map[string]float64{}
	for _, f := range must(t, families, err) {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	delete(got, "rescind_feed_last_contact_timestamp_seconds") // a time
	for name, want := range map[string]float64{
		"rescind_revision": 7, "rescind_revocations": 0, "rescind_stale": 1, "rescind_overdue": 0, "rescind_disk_error": 0, "rescind_feed_refused": 0,
		"rescind_feed_connected": 1, "rescind_filter_positives_total held": 0, "rescind_filter_positives_total false": 0,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s is %v (present: %t), want %v", name, v, there, want)
		}
	}
}
