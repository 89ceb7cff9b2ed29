package envoy

import (
	"context"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// health is the gRPC health service for "" and for the Authorization service.
// Envoy uses Check, which returns the current state. Watch reports a change
// within a second.
type health struct {
	*grpchealth.Server
	ready func() bool
}

const watchInterval = time.Second

func newHealth(ready func() bool) *health {
	h := &health{grpchealth.NewServer(), ready}
	h.refresh()
	return h
}

// refresh sets the state of both services from ready.
func (h *health) refresh() {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if h.isReady() {
		status = healthpb.HealthCheckResponse_SERVING
	}
	for _, service := range []string{"", authv3.Authorization_ServiceDesc.ServiceName} {
		h.SetServingStatus(service, status)
	}
}

// isReady reports whether the replica can decide. A panic counts as not ready.
func (h *health) isReady() (ready bool) {
	defer func() {
		if recover() != nil {
			ready = false
		}
	}()
	return h.ready()
}

func (h *health) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.refresh()
	return h.Server.Check(ctx, in)
}

func (h *health) Watch(in *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	h.refresh()
	done := make(chan struct{})
	defer close(done)
	go func() {
		ticker := time.NewTicker(watchInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				h.refresh()
			case <-done:
				return
			}
		}
	}()
	return h.Server.Watch(in, stream)
}

// gauge returns the metric for the state that the health service reports.
func (h *health) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rescind_ready", Help: "Whether this replica can decide, as reported to Envoy's health checks and on /readyz: 1 or 0.",
	}, func() float64 {
		if h.isReady() {
			return 1
		}
		return 0
	})
}
