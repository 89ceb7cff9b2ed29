package envoy

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"rescind/authz"
)

// Defaults of [Options].
const (
	DefaultMaxMessage   = 16 << 20
	DefaultMaxReceiving = 256 << 20
)

// streamWindow is the number of bytes that a peer may send before the receiver
// reads them. It is the smallest window of gRPC. A message that fits into it is
// not counted against max_receiving, because it may be in memory already.
const streamWindow = 64 << 10

// receiver reads the CheckRequests from the connections and bounds them. With
// with_request_body Envoy sends the body of a request along, and the client
// chooses the size of that body.
//
// gRPC itself bounds one message, and not the messages of all streams together.
// So the receiver reads the length first, and the message only if there is room
// for it.
type receiver struct {
	maxMessage, maxReceiving int64

	reserved atomic.Int64 // bytes of the messages in reception that do not fit into a window
	refused  *prometheus.CounterVec
	log      *slog.Logger
	sparse   map[string]*rate.Sometimes // by bound: at most one log line in a while
}

// The bounds as label values. They are keys of authz.yaml.
const (
	boundMessage   = "grpc.max_message"
	boundReceiving = "grpc.max_receiving"
)

func newReceiver(maxMessage, maxReceiving int, log *slog.Logger) *receiver {
	r := &receiver{
		maxMessage: int64(maxMessage), maxReceiving: int64(maxReceiving), log: log, sparse: map[string]*rate.Sometimes{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_check_refused_total", Help: "Checks that were not read, by the bound that they exceed.",
		}, []string{"bound"}),
	}
	for _, bound := range []string{boundMessage, boundReceiving} {
		r.refused.WithLabelValues(bound)
		r.sparse[bound] = &rate.Sometimes{First: 1, Interval: 10 * time.Second}
	}
	return r
}

// message is a CheckRequest on its way in.
type message struct {
	receiver *receiver
	header   [5]byte // 1 if compressed, and the length
	reserved int64
	buffers  mem.BufferSlice
	refused  authz.Reason // not empty: the message was not read
}

// free gives the memory and its reservation back. Nothing may refer to the
// message any more. A second call has no effect.
func (m *message) free() {
	m.buffers.Free()
	m.receiver.reserved.Add(-m.reserved)
	m.buffers, m.reserved = nil, 0
}

// messageReader is the part of gRPC's stream that reads one message. It has no
// public name, but every server stream has it, and gRPC's own parser uses
// exactly these two methods.
type messageReader interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// receive reads the one message of the call that ctx belongs to. It returns an
// error if the connection fails or the message is larger than max_message. The
// caller calls free in any case.
func (m *message) receive(ctx context.Context) (err error) {
	r := m.receiver
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(messageReader)
	if !ok {
		r.log.ErrorContext(ctx, "CheckRequest not read, this version of gRPC hides the length of a message; the request was denied")
		m.refused = authz.Internal
		return nil
	}
	if err := stream.ReadMessageHeader(m.header[:]); err != nil {
		return err
	}
	length := int64(binary.BigEndian.Uint32(m.header[1:]))
	switch {
	case length > r.maxMessage:
		r.refuse(ctx, boundMessage, length, r.maxMessage)
		return status.Errorf(codes.ResourceExhausted, "CheckRequest has %d bytes, more than grpc.max_message (%d); send less of the body, or raise it", length, r.maxMessage)
	case m.header[0] != 0: // no Envoy compresses a Check
		m.refused = authz.BadRequest
		return nil
	case length > streamWindow:
		if r.reserved.Add(length) > r.maxReceiving {
			r.reserved.Add(-length)
			r.refuse(ctx, boundReceiving, length, r.maxReceiving)
			m.refused = authz.Internal
			return nil
		}
		m.reserved = length
	}
	m.buffers, err = stream.Read(int(length))
	return err
}

// refuse counts a message that is not read, and logs the first of each while.
func (r *receiver) refuse(ctx context.Context, bound string, length, limit int64) {
	r.refused.WithLabelValues(bound).Inc()
	r.sparse[bound].Do(func() {
		from := ""
		if p, ok := peer.FromContext(ctx); ok {
			from = p.Addr.String()
		}
		r.log.WarnContext(ctx, "CheckRequest refused, it exceeds a bound; more are counted in rescind_check_refused_total",
			slog.String("bound", bound), slog.Int64("limit", limit), slog.Int64("bytes", length), slog.String("peer", from))
	})
}
