package envoy

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"rescind/authz"
)

// The answers to two requests with one token mostly differ in three members of the
// dynamic metadata alone. So the rest is encoded once, and each answer is a copy of it
// with these members behind it. In protobuf the order of fields has no meaning, so a
// decoder reads the same message as from [response]. Tests hold this.

// Encode returns the answer to a decision that allows, without the members of the
// metadata that differ from request to request. It returns nil if the answer cannot
// be encoded. It is the Encode of [authz.Cache].
//
// The generated types would need a tree of some thirty objects for one answer. A token
// that never comes again has no use for the encoded answer but this one.
func Encode(d *authz.Decision) []byte {
	if !d.Allow || !isText(d) {
		return nil
	}
	members := [...]struct{ name, value string }{
		{"decision", "allow"}, {"reason", string(d.Reason)}, {"policy", d.Policy}, {"issuer", d.Issuer},
		{"subject", d.Subject}, {"token_id", d.TokenID}, {"would_deny", string(d.WouldDeny)},
	}
	count := len(members)
	if d.WouldDeny == "" {
		count--
	}
	ok := sizeOK(d)
	first := len(statusOK) + sizeBytes(ok)
	size := lengthSize + first
	for _, m := range members[:count] {
		size += sizeMember(m.name, sizeBytes(len(m.value)))
	}
	// The length of the first part stands before it. The length of the metadata
	// comes between the two parts, and is not known yet.
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, uint32(first))
	b = append(b, statusOK...)
	b = appendBytes(b, fieldOKResponse, ok)
	b = appendOK(b, d)
	for _, m := range members[:count] {
		b = appendMember(b, m.name, sizeBytes(len(m.value)))
		b = appendString(b, fieldString, m.value)
	}
	return b
}

const lengthSize = 4

// statusOK is CheckResponse.status with the code OK, which is 0 and so left out.
const statusOK = "\x0a\x00"

// Fields of CheckResponse, OkHttpResponse, HeaderValueOption, HeaderValue, Struct,
// Struct.FieldsEntry and Value. All have tags of one byte.
const (
	fieldOKResponse      protowire.Number = 3
	fieldDynamicMetadata protowire.Number = 4
	fieldHeaders         protowire.Number = 2
	fieldHeadersToRemove protowire.Number = 5
	fieldQueryToRemove   protowire.Number = 8
	fieldHeader          protowire.Number = 1
	fieldAppendAction    protowire.Number = 3
	fieldFields          protowire.Number = 1
	fieldKey             protowire.Number = 1
	fieldValue           protowire.Number = 2
	fieldNumber          protowire.Number = 2
	fieldString          protowire.Number = 3
	fieldBool            protowire.Number = 4
)

// isText reports whether all texts in the answer to d are UTF-8, as protobuf demands.
func isText(d *authz.Decision) bool {
	for _, text := range [...]string{d.Policy, d.Issuer, d.Subject, d.TokenID} {
		if !utf8.ValidString(text) {
			return false
		}
	}
	for _, h := range d.Set {
		if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Value) {
			return false
		}
	}
	return !slices.ContainsFunc(d.Remove, isNoText) && !slices.ContainsFunc(d.RemoveQuery, isNoText)
}

func isNoText(s string) bool { return !utf8.ValidString(s) }

// appendOK appends the OkHttpResponse of d, and sizeOK returns its size.
func appendOK(b []byte, d *authz.Decision) []byte {
	for _, h := range d.Set {
		header := sizeHeader(h)
		b = appendBytes(b, fieldHeaders, sizeBytes(header)+sizeOverwrite)
		b = appendBytes(b, fieldHeader, header)
		b = appendText(b, fieldKey, h.Name)
		b = appendText(b, fieldValue, h.Value)
		b = protowire.AppendTag(b, fieldAppendAction, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	for _, name := range d.Remove {
		b = appendString(b, fieldHeadersToRemove, name)
	}
	for _, name := range d.RemoveQuery {
		b = appendString(b, fieldQueryToRemove, name)
	}
	return b
}

func sizeOK(d *authz.Decision) (n int) {
	for _, h := range d.Set {
		n += sizeBytes(sizeBytes(sizeHeader(h)) + sizeOverwrite)
	}
	for _, name := range d.Remove {
		n += sizeBytes(len(name))
	}
	for _, name := range d.RemoveQuery {
		n += sizeBytes(len(name))
	}
	return n
}

const sizeOverwrite = 2 // the append_action

func sizeHeader(h authz.Header) int { return sizeText(h.Name) + sizeText(h.Value) }

// sizeBytes returns the size of a field with a length and so many bytes.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

// sizeText returns the size of a text that is left out if it is empty.
func sizeText(s string) int {
	if s == "" {
		return 0
	}
	return sizeBytes(len(s))
}

// appendBytes appends the beginning of a field of so many bytes.
func appendBytes(b []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(n))
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return append(appendBytes(b, field, len(s)), s...)
}

// appendText appends a text that is left out if it is empty.
func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(b, field, s)
}

// Members of the metadata that differ from request to request.
const (
	memberID       = "decision_id"
	memberRevision = "revision"
	memberStale    = "stale"
)

// appendAnswer appends the answer to d, which has an Encoded.
func appendAnswer(b []byte, d *authz.Decision) []byte {
	first := d.Encoded[lengthSize:][:binary.LittleEndian.Uint32(d.Encoded)]
	members := d.Encoded[lengthSize+len(first):]

	id := sizeBytes(len(d.ID))
	const revision = 1 + 8
	const stale = 1 + 1
	length := len(members) + sizeMember(memberID, id) + sizeMember(memberRevision, revision)
	if d.Stale {
		length += sizeMember(memberStale, stale)
	}

	b = append(b, first...)
	b = appendBytes(b, fieldDynamicMetadata, length)
	b = append(b, members...)
	b = appendMember(b, memberID, id)
	b = appendString(b, fieldString, d.ID)
	b = appendMember(b, memberRevision, revision)
	b = protowire.AppendTag(b, fieldNumber, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, math.Float64bits(float64(d.Revision)))
	if d.Stale {
		b = appendMember(b, memberStale, stale)
		b = protowire.AppendTag(b, fieldBool, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	return b
}

// appendMember appends the beginning of a member of the metadata: its name, and the
// length of its value, which the caller appends.
func appendMember(b []byte, name string, value int) []byte {
	b = appendBytes(b, fieldFields, sizeEntry(name, value))
	b = appendString(b, fieldKey, name)
	return appendBytes(b, fieldValue, value)
}

// sizeMember returns the size of a member whose value has this size.
func sizeMember(name string, value int) int { return sizeBytes(sizeEntry(name, value)) }

func sizeEntry(name string, value int) int { return sizeBytes(len(name)) + sizeBytes(value) }

// encodedAnswer is an answer on the wire. It returns to the pool when gRPC has sent
// it.
type encodedAnswer struct {
	bytes []byte
	slice [1]mem.Buffer
}

// answerSize is the first size of the memory of an answer. gRPC reuses no memory of
// a KiB or less.
const answerSize = 2 << 10

// mostReused is the size of the largest memory that is used again.
const mostReused = 32 << 10

var encodedAnswers = sync.Pool{New: func() any { return &encodedAnswer{bytes: make([]byte, 0, answerSize)} }}

// encodedAnswerTo returns the answer to d, which has an Encoded.
func encodedAnswerTo(d *authz.Decision) *encodedAnswer {
	a := encodedAnswers.Get().(*encodedAnswer)
	a.bytes = appendAnswer(a.bytes[:0], d)
	return a
}

// buffers returns the answer for gRPC. gRPC calls Put in the end.
func (a *encodedAnswer) buffers() mem.BufferSlice {
	a.slice[0] = mem.NewBuffer(&a.bytes, a)
	return a.slice[:]
}

// Get is never called. It makes a *encodedAnswer a mem.BufferPool.
func (a *encodedAnswer) Get(length int) *[]byte { b := make([]byte, length); return &b }

// Put gives the memory back, when nothing refers to it any more.
func (a *encodedAnswer) Put(*[]byte) {
	if cap(a.bytes) <= mostReused {
		encodedAnswers.Put(a)
	}
}
