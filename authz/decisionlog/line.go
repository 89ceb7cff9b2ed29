package decisionlog

import (
	_ "embed"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/otel/attribute"
)

// Schema is the JSON Schema of a line. Later versions add members. They never
// remove a member or change its meaning.
//
//go:embed schema.json
var Schema []byte

// Names of the events in OpenTelemetry.
const (
	EventName   = "rescind.decision"
	SummaryName = "rescind.decisions.suppressed" // the number of denials without a line of their own
)

// appendLine appends r as one line. The order of members is fixed, so that people
// can read the line. scratch is memory for the attributes.
func appendLine(dst []byte, r *Record, instance string, scratch []attribute.KeyValue) []byte {
	dst = append(dst, `{"timestamp":"`...)
	dst = r.At.UTC().AppendFormat(dst, timestamp)
	dst = append(dst, `","event.name":"`...)
	dst = append(dst, r.event()...)
	dst = append(dst, `","severity_text":"`...)
	dst = append(dst, r.severity()...)
	dst = append(dst, `","service.name":"rescind-authz"`...)
	if instance != "" {
		dst = append(dst, `,"service.instance.id":`...)
		dst = appendText(dst, instance)
	}
	if r.Trace.IsValid() {
		trace, span := r.Trace.TraceID(), r.Trace.SpanID()
		dst = append(dst, `,"trace_id":"`...)
		dst = append(dst, trace.String()...)
		dst = append(dst, `","span_id":"`...)
		dst = append(dst, span.String()...)
		dst = append(dst, '"')
	}
	if r.requestID != "" {
		dst = append(dst, `,"http.request.header.x-request-id":[`...)
		dst = appendText(dst, safe(r.requestID))
		dst = append(dst, ']')
	}
	for _, a := range r.appendAttributes(scratch[:0]) {
		dst = append(dst, `,"`...)
		dst = append(dst, a.Key...) // a constant
		dst = append(dst, `":`...)
		dst = appendValue(dst, a.Value)
	}
	return append(dst, "}\n"...)
}

const timestamp = "2006-01-02T15:04:05.000000Z"

func appendValue(dst []byte, v attribute.Value) []byte {
	switch v.Type() {
	case attribute.BOOL:
		return strconv.AppendBool(dst, v.AsBool())
	case attribute.INT64:
		return strconv.AppendInt(dst, v.AsInt64(), 10)
	case attribute.FLOAT64:
		return strconv.AppendFloat(dst, v.AsFloat64(), 'g', 6, 64)
	}
	return appendText(dst, v.AsString())
}

// appendText appends s in quotes. Bytes that are not UTF-8 become U+FFFD.
func appendText(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
