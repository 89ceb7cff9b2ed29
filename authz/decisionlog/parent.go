package decisionlog

import (
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
)

// maxTraceState is the size that W3C asks every system to pass on.
const maxTraceState = 512

// Parent returns the span that the checked request belongs to, from its
// traceparent header (W3C Trace Context). The header is the word of the client or
// of a proxy. It names a trace and has no other effect. Parent returns the zero
// SpanContext if the header is absent, malformed or repeated.
//
// The SDK's propagator does the same with several allocations. Most requests are
// not sampled and need none.
func Parent(headers []authz.Header) trace.SpanContext {
	var value string
	for i := range headers {
		if len(headers[i].Name) == len("traceparent") && strings.EqualFold(headers[i].Name, "traceparent") {
			if value != "" {
				return trace.SpanContext{}
			}
			value = headers[i].Value
		}
	}
	return ParseParent(value)
}

// ParseParent returns the span that the value of a traceparent header names, or
// the zero SpanContext.
func ParseParent(s string) trace.SpanContext {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return trace.SpanContext{}
	}
	var (
		version, flags [1]byte
		c              = trace.SpanContextConfig{Remote: true}
	)
	ok := lowerHex(version[:], s[0:2]) && lowerHex(c.TraceID[:], s[3:35]) && lowerHex(c.SpanID[:], s[36:52]) && lowerHex(flags[:], s[53:55])
	switch {
	case !ok, version[0] == 0xff:
		return trace.SpanContext{}
	case version[0] == 0 && len(s) != length, len(s) > length && s[length] != '-': // later versions may say more
		return trace.SpanContext{}
	}
	c.TraceFlags = trace.TraceFlags(flags[0]) & trace.FlagsSampled
	parent := trace.NewSpanContext(c)
	if !parent.IsValid() { // an id of zeros
		return trace.SpanContext{}
	}
	return parent
}

// lowerHex decodes s into dst. It reports whether s is lower case and fills dst
// exactly.
func lowerHex(dst []byte, s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'F' {
			return false
		}
	}
	n, err := hex.Decode(dst, []byte(s)) // does not escape
	return err == nil && n == len(dst)
}

// State returns the tracestate of the checked request, for a span whose parent is
// [Parent]. It returns the empty state if there is none, or none that is valid.
func State(headers []authz.Header) trace.TraceState {
	var values []string
	size := 0
	for i := range headers {
		if strings.EqualFold(headers[i].Name, "tracestate") {
			values = append(values, headers[i].Value)
			size += len(headers[i].Value) + 1
		}
	}
	if size > maxTraceState+1 {
		return trace.TraceState{}
	}
	// The state keeps parts of the text, which belongs to the request.
	state, err := trace.ParseTraceState(strings.Clone(strings.Join(values, ",")))
	if err != nil {
		return trace.TraceState{}
	}
	return state
}
