package jwks

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// value returns the value of a metric with these labels, in turn name and value.
// It returns -1 for a metric that is absent.
func value(t *testing.T, r prometheus.Gatherer, metric string, labels ...string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			fits := 0
			for _, l := range m.GetLabel() {
				for i := 0; i < len(labels); i += 2 {
					if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
						fits++
					}
				}
			}
			if fits == len(labels)/2 {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func TestFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := prometheus.NewPedanticRegistry()
		f := must(NewFigures(r))
		if _, err := NewFigures(r); err == nil {
			t.Error("a second NewFigures in one registry: got no error, want one")
		}
		want := func(metric string, want float64, labels ...string) {
			t.Helper()
			if got := value(t, r, metric, append(labels, "issuer", idp)...); got != want {
				t.Errorf("%s %v: got %v, want %v", metric, labels, got, want)
			}
		}
		o := originOf(document(kid("a"), kid("b"), with(kid("c"), map[string]any{"use": "enc"})))
		opts := o.options()
		opts.Figures = f
		old := must(Open(opts))
		want("rescind_jwks_refreshes_total", 0, "result", "failure")
		synctest.Wait()
		now := float64(time.Now().Unix())
		want("rescind_jwks_keys", 2)
		want("rescind_jwks_refreshes_total", 1, "result", "success")
		want("rescind_jwks_last_success_timestamp_seconds", now)
		want("rescind_jwks_keys_skipped_total", 1, "reason", "use")

		o.set("", answer{err: errDown})
		time.Sleep(defaultRefreshInterval)
		synctest.Wait()
		want("rescind_jwks_keys", 2)
		want("rescind_jwks_last_success_timestamp_seconds", now)
		if n := value(t, r, "rescind_jwks_refreshes_total", "issuer", idp, "result", "failure"); n < 1 {
			t.Errorf("got %v failures, want at least 1", n)
		}

		// After a reload that is refused the old Keys write again.
		refused := must(Open(opts))
		synctest.Wait()
		want("rescind_jwks_keys", 0)
		refused.Close()
		want("rescind_jwks_keys", 2)
		want("rescind_jwks_last_success_timestamp_seconds", now)
		failures := value(t, r, "rescind_jwks_refreshes_total", "issuer", idp, "result", "failure")
		time.Sleep(2 * defaultRefreshInterval)
		if n := value(t, r, "rescind_jwks_refreshes_total", "issuer", idp, "result", "failure"); n <= failures {
			t.Errorf("after a refused reload: got still %v failures, want more", n)
		}

		// After a reload only the new Keys write.
		o.publish(kid("a"))
		reloaded := must(Open(opts))
		synctest.Wait()
		want("rescind_jwks_keys", 1)
		old.Close()
		want("rescind_jwks_keys", 1)
		want("rescind_jwks_keys_skipped_total", 1, "reason", "use")
		reloaded.Close()
		for _, metric := range []string{"rescind_jwks_keys", "rescind_jwks_refreshes_total", "rescind_jwks_last_success_timestamp_seconds", "rescind_jwks_keys_skipped_total"} {
			want(metric, -1)
		}
	})
}

// No label has a value that an issuer or a token chose.
func TestLabelsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := prometheus.NewPedanticRegistry()
		opts := originOf(document(kid("a"), map[string]any{"kty": "made up", "kid": "made up", "use": "made up", "alg": "made up"})).options()
		opts.Figures = must(NewFigures(r))
		k := must(Open(opts))
		defer k.Close()
		_, _ = k.Find(background, "made up", "made up")
		families := must(r.Gather())
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					switch l.GetValue() {
					case idp, "success", "failure", "use":
					default:
						t.Errorf("%s has the label %s=%q, want a value of the configuration or of this package", f.GetName(), l.GetName(), l.GetValue())
					}
				}
			}
		}
	})
}
