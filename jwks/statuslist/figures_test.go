package statuslist

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFigures(t *testing.T) {
	registry := prometheus.NewRegistry()
	figures := must(NewFigures(registry))
	want := func(t *testing.T, text string) {
		t.Helper()
		var lines []string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		got := map[string]bool{}
		families := must(registry.Gather())
		for _, f := range families {
			if err := testutil.GatherAndCompare(registry, strings.NewReader(""), f.GetName()); err != nil {
				for line := range strings.Lines(err.Error()) {
					got[strings.TrimLeft(strings.TrimSpace(line), "+- ")] = true
				}
			}
		}
		for _, line := range lines {
			if !got[line] {
				t.Errorf("got the figures %v, want %s among them", got, line)
			}
		}
		if len(lines) == 0 && len(families) > 0 {
			t.Errorf("got %d figures, want none", len(families))
		}
	}
	bubble(t, func(o *Options) { o.Figures = figures }, func(t *testing.T, p *provider, l *Lists) {
		want(t, `rescind_status_lists{issuer="https://idp.example/"} 0
			rescind_status_list_refreshes_total{issuer="https://idp.example/",result="failure"} 0`)
		p.says(first, token(first, make([]byte, 500), nil))
		named(t, l, first)
		named(t, l, folder+"2")
		want(t, `rescind_status_lists{issuer="https://idp.example/"} 1
			rescind_status_lists_failing{issuer="https://idp.example/"} 1
			rescind_status_list_bytes{issuer="https://idp.example/"} 500
			rescind_status_list_last_success_timestamp_seconds{issuer="https://idp.example/"} 0
			rescind_status_list_refreshes_total{issuer="https://idp.example/",result="failure"} 1
			rescind_status_list_refreshes_total{issuer="https://idp.example/",result="success"} 1
			rescind_status_list_unavailable_total{issuer="https://idp.example/"} 2
			rescind_status_list_refused_total{issuer="https://idp.example/"} 0`)
		refused := must(Open(l.o)) // as a reload that is refused in the end does
		refused.Close()
		want(t, `rescind_status_list_unavailable_total{issuer="https://idp.example/"} 2`)
		next := must(Open(l.o)) // as a reload does
		synctest.Wait()
		l.Close()
		want(t, `rescind_status_list_unavailable_total{issuer="https://idp.example/"} 0`)
		next.Close()
		want(t, "")
	})
}
