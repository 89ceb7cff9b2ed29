package test

import (
	"encoding/json"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/freeport"
)

// With the module in the chain, the cluster says how a Check is repeated. Envoy asks
// another replica if one cannot be reached, or ends the connection.
func TestChecksAreRepeatedByTheCluster(t *testing.T) {
	t.Parallel()
	var ended atomic.Int64
	gone := freeport.Addrs(t, 1)[0]
	ends := accepting(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1)) // the Check has been sent
		ended.Add(1)
		_ = c.Close()
	})
	s := startInProcessWith(t, envoytest.Options{Workers: 1, Bootstrap: func(s *envoytest.Stack) ([]byte, error) {
		n, err := shippedBy(s)
		if err != nil {
			return nil, err
		}
		cluster := at(n, "static_resources", "clusters", 0).(node)
		delete(cluster, "health_checks") // they would find the two out
		endpoints := at(cluster, "load_assignment", "endpoints", 0).(node)
		for _, addr := range []string{gone, ends} {
			endpoints["lb_endpoints"] = append(endpoints["lb_endpoints"].([]any), node{"endpoint": node{"address": address(addr)}})
		}
		return json.Marshal(n)
	}})
	for range 12 {
		wantStatus(t, s, "no token, with one replica of three that answers", "", http.StatusUnauthorized)
	}
	if ended.Load() == 0 {
		t.Error("no Check went to the replica that ends its connections, want some")
	}
}
