package daemon

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/test/testcert"
)

func wantMetric(t *testing.T, when string, c prometheus.Collector, name, want string) {
	t.Helper()
	if want != "" {
		want = "# HELP " + name + " " + helpOf(c) + "\n# TYPE " + name + " gauge\n" + want + "\n"
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), name); err != nil {
		t.Errorf("%s: got another %s than wanted: %v", when, name, err)
	}
}

// helpOf returns the help of a collector of one metric.
func helpOf(c prometheus.Collector) string {
	descs := make(chan *prometheus.Desc, 1)
	c.Describe(descs)
	_, rest, _ := strings.Cut((<-descs).String(), `help: "`)
	help, _, _ := strings.Cut(rest, `", `)
	return help
}

// The metric is of the leaf that a new connection gets: a rotated one without a
// restart, and the last good one while the files are faulty.
func TestExpiryIsOfTheLeafInForce(t *testing.T) {
	f := newTLSFiles(t)
	a := testcert.NewAuthority(t, "ca")
	testcert.Replace(t, f.ca, a.PEM())
	synctest.Test(t, func(t *testing.T) {
		const name = "rescind_certificate_expiry_timestamp_seconds"
		begun := time.Now()
		a.IssueFiles(t, "first", f.cert, f.key)
		server, err := ServerTLS(f.cert, f.key, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		mutual, err := MutualTLS(f.cert, f.key, f.ca, nil)
		if err != nil {
			t.Fatal(err)
		}
		client := ClientTLS(f.ca, f.cert, f.key, "", nil)
		wantExpiry := func(when string, issued time.Time) {
			t.Helper()
			for part, c := range map[string]prometheus.Collector{
				"grpc": ServerExpiry("grpc", server), "cluster": ServerExpiry("cluster", mutual), "revocation": Expiry("revocation", client),
			} {
				want := fmt.Sprintf("%s{name=%q} %d", name, part, issued.Add(testcert.Lifetime).Unix())
				wantMetric(t, when+", "+part, c, name, want)
			}
		}
		wantExpiry("at first", begun)
		time.Sleep(time.Hour)
		wantExpiry("an hour later", begun)
		a.IssueFiles(t, "second", f.cert, f.key)
		rotated := time.Now()
		time.Sleep(2 * recheck)
		wantExpiry("rotated", rotated)
		testcert.Replace(t, f.key, []byte("nonsense"))
		time.Sleep(2 * recheck)
		wantExpiry("a faulty key", rotated)

		wantMetric(t, "plaintext", ServerExpiry("grpc", nil), name, "")
		wantMetric(t, "a client without a certificate", Expiry("revocation", ClientTLS(f.ca, "", "", "", nil)), name, "")
		wantMetric(t, "a client whose files never were good", Expiry("revocation", ClientTLS(f.ca, f.cert, f.key, "", nil)), name, "")
	})
}

func TestBuildInfoAndLastReload(t *testing.T) {
	const build = "rescind_build_info"
	want := fmt.Sprintf("# HELP %s Always 1. The labels name the build that runs.\n# TYPE %s gauge\n%s{commit=\"abc\",go=%q,version=\"1.2.3\"} 1\n", build, build, build, runtime.Version())
	if err := testutil.GatherAndCompare(Registry("1.2.3", "abc"), strings.NewReader(want), build); err != nil {
		t.Errorf("got another %s than wanted: %v", build, err)
	}
	const reload = "rescind_config_last_reload_successful"
	wantMetric(t, "accepted", LastReload(func() bool { return true }), reload, reload+" 1")
	wantMetric(t, "refused", LastReload(func() bool { return false }), reload, reload+" 0")
}
