package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"rescind/cmd/internal/daemon"
)

// figures returns the metrics of a control node as a whole. Its log is open
// when they are registered.
func (n *node) figures() []prometheus.Collector {
	return []prometheus.Collector{
		daemon.YesOrNo("rescind_control_ready", "Whether this node answers, as it says on /readyz: 1 or 0.", func() bool { return len(n.readiness().Missing) == 0 }),
		daemon.YesOrNo("rescind_control_writable", "Whether the durable log takes writes: 1 or 0. With 0 nothing can be revoked, and revoked tokens stay revoked.", func() bool { return n.store.Err() == nil }),
		daemon.YesOrNo("rescind_control_leader", "1 on the node that leads the log: writes pause for a few seconds if it is lost. 0 on the others.", n.store.Leads),
	}
}
