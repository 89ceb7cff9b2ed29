package envoy

import (
	"encoding/binary"
	"math"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
)

// The answers to two requests with one token mostly differ in three members of the
// dynamic metadata alone. So the rest is encoded once, by the generated types, and
// each answer is a copy of it with these members behind it. In protobuf the order of
// fields has no meaning, so a decoder reads the same message as from [response].

// Encode returns the answer to a decision that allows, without the members of the
// metadata that differ from request to request. It returns nil if the answer cannot
// be encoded. It is the Encode of [authz.Cache].
func Encode(d *authz.Decision) []byte {
	if !d.Allow {
		return nil
	}
	answer := response(d, false)
	members := answer.DynamicMetadata
	for _, name := range []string{memberID, memberRevision, memberStale} {
		delete(members.Fields, name)
	}
	answer.DynamicMetadata = nil
	// The length of the first part stands before it. The length of the metadata
	// comes between the two parts, and is not known yet.
	var standard proto.MarshalOptions
	encoded, err := standard.MarshalAppend(make([]byte, lengthSize, 1024), answer)
	if err != nil {
		return nil
	}
	binary.LittleEndian.PutUint32(encoded, uint32(len(encoded)-lengthSize))
	if encoded, err = standard.MarshalAppend(encoded, members); err != nil {
		return nil
	}
	return append([]byte(nil), encoded...)
}

const lengthSize = 4

// Fields of CheckResponse, Struct, Struct.FieldsEntry and Value.
const (
	fieldDynamicMetadata protowire.Number = 4
	fieldFields          protowire.Number = 1
	fieldKey             protowire.Number = 1
	fieldValue           protowire.Number = 2
	fieldNumber          protowire.Number = 2
	fieldString          protowire.Number = 3
	fieldBool            protowire.Number = 4
)

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

	const tag = 1 // the size of each tag here
	id := tag + protowire.SizeBytes(len(d.ID))
	const revision = tag + 8
	const stale = tag + 1
	length := len(members) + sizeMember(memberID, id) + sizeMember(memberRevision, revision)
	if d.Stale {
		length += sizeMember(memberStale, stale)
	}

	b = append(b, first...)
	b = protowire.AppendTag(b, fieldDynamicMetadata, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(length))
	b = append(b, members...)
	b = appendMember(b, memberID, id)
	b = protowire.AppendTag(b, fieldString, protowire.BytesType)
	b = protowire.AppendString(b, d.ID)
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
	b = protowire.AppendTag(b, fieldFields, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeEntry(name, value)))
	b = protowire.AppendTag(b, fieldKey, protowire.BytesType)
	b = protowire.AppendString(b, name)
	b = protowire.AppendTag(b, fieldValue, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(value))
}

// sizeMember returns the size of a member whose value has this size.
func sizeMember(name string, value int) int { return 1 + protowire.SizeBytes(sizeEntry(name, value)) }

func sizeEntry(name string, value int) int {
	return 1 + protowire.SizeBytes(len(name)) + 1 + protowire.SizeBytes(value)
}

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
