package test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"rescind/test/eventually"
	"rescind/test/testcert"
	"rescind/test/testedge"
)

// A fault between the complete edge configuration and its replicas denies, or costs
// nothing.
func TestEdgeFaults(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startEdge(t, "type: STRICT_DNS\n", "type: STRICT_DNS\n      dns_refresh_rate: 0.1s\n      dns_failure_refresh_rate: {base_interval: 0.1s, max_interval: 0.1s}\n")

	t.Run("the circuit breaker is open", func(t *testing.T) {
		e.runtime("circuit_breakers.rescind.default.max_requests", "0")
		a := e.wants("no Check may be sent", "/orders/x", e.plain, http.StatusServiceUnavailable)
		if seen, err := a.Seen(); err == nil {
			t.Errorf("the upstream got %s, want no request", seen.Path)
		}
		e.wants("no Check may be sent, on a public route", "/public/x", "", http.StatusServiceUnavailable)
		if n := e.figure("upstream_rq_active_overflow"); n == 0 {
			t.Errorf("upstream_rq_active_overflow: got %d, want the Checks that were not sent", n)
		}
		e.runtime("circuit_breakers.rescind.default.max_requests", "10000")
		e.wants("Checks are sent again", "/orders/x", e.plain, http.StatusOK)
	})
	t.Run("the name of the replicas", func(t *testing.T) {
		failed := e.figure("update_failure")
		e.Names.Fail()
		eventually.True(t, "the DNS server has failed for Envoy", func() bool { return e.figure("update_failure") > failed })
		e.wants("the DNS server fails", "/orders/x", e.plain, http.StatusOK)
		answered := e.figure("update_success")
		e.Names.Answer()
		eventually.True(t, "Envoy has read that there is no address", func() bool { return e.figure("update_success") > answered+1 })
		e.wants("the name has no address", "/orders/x", e.plain, http.StatusOK)
		e.Names.Answer("127.0.0.1", "127.0.0.2")
	})
	t.Run("a replica dies", func(t *testing.T) {
		var asked atomic.Int64
		stop := hammer(func() error {
			asked.Add(1)
			a, err := e.ask(e.client, "/orders/x", e.plain)
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
		e.Replicas[0].Kill()
		eventually.True(t, "Envoy ejects the dead replica", func() bool { return e.figure("outlier_detection.ejections_enforced_total") > 0 })
		eventually.True(t, "Envoy has one healthy replica", func() bool { return e.figure("membership_healthy") == 1 })
		before := asked.Load()
		eventually.True(t, "20 more requests", func() bool { return asked.Load() > before+20 })
		// On a machine without a processor to spare, the other replica may answer too
		// late. Its own ejection is then right.
		if sent, lost := stop(); len(lost) > 0 && e.figure("outlier_detection.ejections_enforced_total") == 1 {
			t.Errorf("got %d requests and %d lost: %v; want none lost", sent, len(lost), lost[:min(3, len(lost))])
		}
		e.startReplica(0)
		eventually.True(t, "Envoy has both replicas again", func() bool { return e.figure("membership_healthy") == 2 })
	})
	t.Run("a replica with a wrong certificate", func(t *testing.T) {
		e.IssueReplica(e.Parts, "control.rescind.internal")
		for i := range e.Replicas {
			e.Replicas[i].Kill()
			e.startReplica(i)
		}
		eventually.True(t, "Envoy refuses the other name", func() bool { return e.figure("ssl.fail_verify_san") > 0 })
		e.wants("of the same authority, for another name", "/orders/x", e.plain, http.StatusServiceUnavailable)
		e.wants("the same on a public route", "/public/x", "", http.StatusServiceUnavailable)
		e.IssueReplica(testcert.NewAuthority(t, "stranger"), testedge.Replica)
		eventually.True(t, "Envoy refuses the other authority", func() bool { return e.figure("ssl.fail_verify_error") > 0 })
		e.wants("of another authority, for the name", "/orders/x", e.plain, http.StatusServiceUnavailable)
		if a, err := e.ask(e.client, "/edge-health", ""); err != nil || a.Status != http.StatusServiceUnavailable {
			t.Errorf("the health of a gateway without a replica: got %d %v, want 503", a.Status, err)
		}
		e.IssueReplica(e.Parts, testedge.Replica)
		e.becomes("with the right certificate", e.plain, http.StatusOK)
	})
}

// runtime sets one of Envoy's runtime values.
func (e *edge) runtime(name, value string) {
	e.t.Helper()
	res, err := http.Post(e.AdminURL+"/runtime_modify?"+name+"="+value, "", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		e.t.Fatalf("set %s: Envoy answered %s, want 200", name, res.Status)
	}
	eventually.True(e.t, name+" is "+value, func() bool {
		return strings.Contains(scraped(e.AdminURL+"/runtime"), name)
	})
}

// startReplica starts a replica again and waits until it is ready.
func (e *edge) startReplica(i int) {
	e.t.Helper()
	if err := e.StartReplica(e.t.Context(), i); err != nil {
		e.t.Fatal(err)
	}
	if err := e.WaitReady(e.t.Context(), i); err != nil {
		e.t.Fatal(err)
	}
}
