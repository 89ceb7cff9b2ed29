package daemon

import (
	"crypto/tls"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Registry returns a new registry with the metrics of the Go runtime, of the
// process and of the build.
func Registry(version, commit string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rescind_build_info", Help: "Always 1. The labels name the build that runs.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}

// LastReload returns the metric of the last reading of the configuration.
func LastReload(successful func() bool) prometheus.Collector {
	return YesOrNo("rescind_config_last_reload_successful", "Whether the last reading of the configuration was accepted: 1 or 0. With 0 the configuration before it stays in force.", successful)
}

// LastChange returns the metric of the time at which the configuration in force was
// put in force.
func LastChange(at func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rescind_config_last_change_timestamp_seconds", Help: "When the configuration in force was put in force: at the start, or by a reload.",
	}, func() float64 { return float64(at().UnixMicro()) / 1e6 })
}

// YesOrNo returns a metric that is 1 where yes reports true, and else 0.
func YesOrNo(name, help string, yes func() bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		if yes() {
			return 1
		}
		return 0
	})
}

// certificate is the metric of one certificate of the process.
type certificate struct {
	desc    *prometheus.Desc
	current func() (*tls.Config, error)
}

// Expiry returns the metric of the time at which a certificate expires. name is
// the part of the configuration that names its files. current returns the TLS
// configuration in force. Where there is none, or it has no certificate, the
// metric has no value.
func Expiry(name string, current func() (*tls.Config, error)) prometheus.Collector {
	return &certificate{prometheus.NewDesc(
		"rescind_certificate_expiry_timestamp_seconds", "When the certificate in force expires, by the part of the configuration that names it.",
		nil, prometheus.Labels{"name": name},
	), current}
}

// ServerExpiry returns the [Expiry] of a configuration that [ServerTLS] or
// [MutualTLS] returned. A nil config is plaintext.
func ServerExpiry(name string, config *tls.Config) prometheus.Collector {
	return Expiry(name, func() (*tls.Config, error) {
		if config == nil {
			return &tls.Config{}, nil //nolint:gosec // nothing connects with it
		}
		return config.GetConfigForClient(nil)
	})
}

// Describe implements [prometheus.Collector].
func (c *certificate) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements [prometheus.Collector]. It looks at the files as a new
// connection does.
func (c *certificate) Collect(out chan<- prometheus.Metric) {
	config, err := c.current()
	if err != nil || len(config.Certificates) == 0 || config.Certificates[0].Leaf == nil {
		return
	}
	out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(config.Certificates[0].Leaf.NotAfter.Unix()))
}
