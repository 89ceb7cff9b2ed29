package statuslist

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures are the metrics of all issuers that have status lists. A nil *Figures
// has none.
//
// A reload opens the new [Lists] of an issuer before it closes the old ones, and a
// reload that is refused closes the new ones. The newest that are open have the
// figures.
type Figures struct {
	mu   sync.Mutex
	open map[string][]*Lists // by issuer, the newest last
}

// NewFigures registers the metrics.
func NewFigures(r prometheus.Registerer) (*Figures, error) {
	f := &Figures{open: map[string][]*Lists{}}
	return f, r.Register(f)
}

func (f *Figures) add(l *Lists) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[l.o.Issuer] = append(f.open[l.o.Issuer], l)
}

func (f *Figures) remove(l *Lists) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[l.o.Issuer] = slices.DeleteFunc(f.open[l.o.Issuer], func(o *Lists) bool { return o == l })
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"issuer"}, labels...), nil)
}

var (
	listsDesc       = describe("rescind_status_lists", "Status lists of the issuer that can be relied upon.")
	failingDesc     = describe("rescind_status_lists_failing", "Status lists of the issuer whose last fetch failed.")
	bytesDesc       = describe("rescind_status_list_bytes", "Size of the issuer's status lists in memory.")
	successDesc     = describe("rescind_status_list_last_success_timestamp_seconds", "When the status list that was refreshed longest ago was last fetched; 0: it never was.")
	refreshesDesc   = describe("rescind_status_list_refreshes_total", "Fetches of the issuer's status lists, by result: success or failure.", "result")
	unavailableDesc = describe("rescind_status_list_unavailable_total", "Look-ups of a status for which there was no usable list.")
	refusedDesc     = describe("rescind_status_list_refused_total", "Times that a further status list was not followed because max_lists are held.")
)

// Describe implements prometheus.Collector.
func (f *Figures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{listsDesc, failingDesc, bytesDesc, successDesc, refreshesDesc, unavailableDesc, refusedDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (f *Figures) Collect(out chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for issuer, all := range f.open {
		if len(all) == 0 {
			continue
		}
		l := all[len(all)-1]
		gauge := func(d *prometheus.Desc, v float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, issuer)
		}
		count := func(d *prometheus.Desc, v uint64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{issuer}, labels...)...)
		}
		s := l.summary(time.Now())
		gauge(listsDesc, float64(s.usable))
		gauge(failingDesc, float64(s.failing))
		gauge(bytesDesc, float64(s.bytes))
		if s.followed > 0 {
			gauge(successDesc, s.oldest)
		}
		count(refreshesDesc, l.refreshed.Load(), "success")
		count(refreshesDesc, l.failed.Load(), "failure")
		count(unavailableDesc, l.unavailable.Load())
		count(refusedDesc, l.refused.Load())
	}
}

// summary describes all lists of an issuer.
type summary struct {
	followed, usable, failing, bytes int

	oldest float64 // the earliest last success in Unix seconds; 0: one list has none
}

func (l *Lists) summary(now time.Time) summary {
	var s summary
	for _, f := range *l.lists.Load() {
		success := 0.0
		if held := f.current.Load(); held != nil {
			success = float64(held.fetched.UnixMilli()) / 1000
			s.bytes += len(held.statuses)
			if now.Before(held.until) {
				s.usable++
			}
		}
		if f.failing.Load() {
			s.failing++
		}
		if s.followed == 0 || success < s.oldest {
			s.oldest = success
		}
		s.followed++
	}
	return s
}
