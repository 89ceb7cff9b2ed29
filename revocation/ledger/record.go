package ledger

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"rescind/revocation"
)

// A batch is the content of one revision of the log:
//
//	version 3 | rules | writer | count | operations
//
// An operation begins with its kind and its length. Strings carry their
// length, integers are varints, instants microseconds. The log's checksum has
// vouched for the bytes before they are read here.
//
// Several callers may share a batch. The kind of a revocation says whether it is
// the first one of a write, which is all that one caller asked for at once.
//
// The rules are the version of digests and matching rules ([revocation.Rules])
// of the writer. Digests are not in the log: the reader makes them from the
// claims, so an entry of an earlier version means the same or more. A batch of
// a later version is refused, because it may mean more than this program knows.
//
// Version 1 is that of the first edition. It has no rules and no covers. Before
// version 3 a batch does not say where a write ends: there one write is the
// revocations in a row that have the same created_by and created_at.
const (
	batchVersion        = 3
	beforeWritesVersion = 2
	firstBatchVersion   = 1
)

const (
	opRevoke       byte = 1
	opRestore      byte = 2
	opCover        byte = 3 // a revocation that covers others of its digest
	opRestoreWrite byte = 4

	firstOfWrite byte = 0x80 // on the kind of a revocation
)

// operation is one operation of a batch: a revocation or a restoration. The entry
// of a revocation is for the index, and its packed form is kept for its texts.
type operation struct {
	packed  []byte // nil for a restoration
	entry   revocation.Entry
	write   uint32 // index of the first revocation of its write
	block   bool
	cover   bool      // replicas hold it for the rows that it covers
	by      string    // name of the credential that revoked
	at      time.Time // of the revocation
	restore restoration
}

// restoration undoes one revocation, or the revocations of one write.
type restoration struct {
	ID    revocation.ID // the first one
	Count uint32        // of the indexes from there on
	At    time.Time
	By    string
}

func packBatch(writer string, ops []operation) []byte {
	size := 64 + len(writer)
	for i := range ops {
		size += 8 + len(ops[i].packed)
	}
	b := append(make([]byte, 0, size), batchVersion)
	b = binary.AppendUvarint(b, revocation.Rules)
	b = appendText(b, writer)
	b = binary.AppendUvarint(b, uint64(len(ops)))
	index := uint32(0)
	for i := range ops {
		op := &ops[i]
		if op.packed == nil {
			b = appendRestoration(b, &op.restore)
			continue
		}
		kind := opRevoke
		if op.cover {
			kind = opCover
		}
		if op.write == index {
			kind |= firstOfWrite
		}
		b = append(b, kind)
		b = binary.AppendUvarint(b, uint64(len(op.packed)))
		b = append(b, op.packed...)
		index++
	}
	return b
}

func appendRestoration(b []byte, r *restoration) []byte {
	var scratch [64]byte
	body, kind := binary.AppendUvarint(scratch[:0], r.ID.Revision), opRestore
	body = binary.AppendUvarint(body, uint64(r.ID.Index))
	if r.Count > 1 {
		kind = opRestoreWrite
		body = binary.AppendUvarint(body, uint64(r.Count))
	}
	body = binary.AppendVarint(body, r.At.UnixMicro())
	body = appendText(body, r.By)
	b = binary.AppendUvarint(append(b, kind), uint64(len(body)))
	return append(b, body...)
}

// readBatch returns the operations of the batch at revision. They point into b.
func readBatch(b []byte, revision uint64, in *interner) (writer string, ops []operation, err error) {
	d := decoder{b: b, in: in}
	version, rules := d.byte(), uint64(1)
	switch version {
	case firstBatchVersion:
	case beforeWritesVersion, batchVersion:
		if rules = d.uvarint(); rules > revocation.Rules {
			return "", nil, newerLog(revision, fmt.Sprintf("version %d of the matching rules, and this program knows %d", rules, revocation.Rules))
		}
	default:
		return "", nil, newerLog(revision, fmt.Sprintf("version %d of batches, and this program knows %d", version, batchVersion))
	}
	writer = d.text()
	n := d.uvarint()
	ops = make([]operation, 0, min(n, uint64(len(d.b)/2))) // none is shorter
	index, last := uint32(0), operation{}
	for ; n > 0 && !d.bad; n-- {
		op, first := d.operation(int(rules))
		if op.packed != nil {
			op.entry.ID = revocation.ID{Revision: revision, Index: index}
			if version < batchVersion {
				first = op.by != last.by || !op.at.Equal(last.at)
			}
			if op.write = last.write; first {
				op.write = index
			}
			last = op
			index++
		}
		ops = append(ops, op)
	}
	if d.bad || len(d.b) != 0 {
		return "", nil, fmt.Errorf("revision %d of the log cannot be read as a batch, though its checksum is right: restore the log from a backup", revision)
	}
	return writer, ops, nil
}

func newerLog(revision uint64, why string) error {
	return fmt.Errorf("revision %d of the log is from a newer rescind (%s): run the version of rescind that wrote it, or a later one", revision, why)
}

// operation reads one operation of a batch under these rules, and whether it
// begins a write. A revocation has no ID yet. Its packed form is one of this
// version.
func (d *decoder) operation(rules int) (op operation, first bool) {
	kind := d.byte()
	body := d.bytes()
	switch kind {
	case opRevoke, opCover, opRevoke | firstOfWrite, opCover | firstOfWrite:
		r := unpack(body, d.in)
		if r == nil {
			d.bad = true
			return op, false
		}
		if renamed(r, rules) {
			body = pack(r)
		}
		op = operation{packed: body, entry: r.Entry(), block: r.Block, cover: kind&^firstOfWrite == opCover, by: r.CreatedBy, at: r.CreatedAt}
		return op, kind&firstOfWrite != 0
	case opRestore, opRestoreWrite:
		op.restore = d.restoration(kind, body)
	default:
		d.bad = true
	}
	return op, false
}

func (d *decoder) restoration(kind byte, body []byte) restoration {
	e := decoder{b: body, in: d.in}
	r := restoration{ID: revocation.ID{Revision: e.uvarint(), Index: uint32(e.uvarint())}, Count: 1}
	if kind == opRestoreWrite {
		r.Count = uint32(e.uvarint())
	}
	r.At, r.By = time.UnixMicro(e.varint()).UTC(), e.text()
	d.bad = d.bad || e.bad
	return r
}

// renamed gives the claims of r, which was written under these rules, the names
// that they have now. It reports whether a name is another one.
func renamed(r *revocation.Revocation, rules int) (changed bool) {
	for i := range r.Target.Claims {
		c := &r.Target.Claims[i]
		old := c.Name
		c.Name = revocation.NameUnder(rules, old)
		changed = changed || c.Name != old
	}
	return changed
}

const flagBlock = 0x80 // on the kind of the target

// pack returns the packed form of r. The ID is not in it, because it follows from
// the place in the log.
func pack(r *revocation.Revocation) []byte {
	b := make([]byte, 0, 128)
	kind := byte(r.Target.Kind)
	if r.Block {
		kind |= flagBlock
	}
	b = append(b, kind)
	b = appendText(b, r.Issuer)
	b = binary.AppendVarint(b, int64(r.Before))
	b = binary.AppendVarint(b, int64(r.ExpiresAt))
	b = binary.AppendVarint(b, r.CreatedAt.UnixMicro())
	b = appendText(b, r.CreatedBy)
	b = appendText(b, r.Reason)
	switch r.Target.Kind {
	case revocation.KindClaims:
		b = binary.AppendUvarint(b, uint64(len(r.Target.Claims)))
		for _, c := range r.Target.Claims {
			b = appendText(b, c.Name)
			b = appendValue(b, c.Value)
		}
	case revocation.KindKeyID:
		b = appendText(b, r.Target.KeyID)
	case revocation.KindToken:
		b = append(b, r.Target.Token[:]...)
	}
	return b
}

func appendValue(b []byte, v revocation.Value) []byte {
	switch v := v.JSON().(type) {
	case string:
		return appendText(append(b, 's'), v)
	case json.Number:
		return appendText(append(b, 'n'), string(v))
	case bool:
		if v {
			return append(b, 't')
		}
	}
	return append(b, 'f')
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// unpack reads the packed form of a revocation. It returns nil if the bytes are
// not one.
func unpack(b []byte, in *interner) *revocation.Revocation {
	d := decoder{b: b, in: in}
	kind := d.byte()
	r := &revocation.Revocation{
		Issuer:    d.common(),
		Block:     kind&flagBlock != 0,
		Before:    revocation.Micros(d.varint()),
		ExpiresAt: revocation.Micros(d.varint()),
		CreatedAt: time.UnixMicro(d.varint()).UTC(),
		CreatedBy: d.common(),
		Reason:    d.text(),
	}
	r.Target.Kind = revocation.Kind(kind &^ flagBlock)
	switch r.Target.Kind {
	case revocation.KindClaims:
		n := d.uvarint()
		if n == 0 || n > revocation.MaxClaims {
			return nil
		}
		r.Target.Claims = make([]revocation.Claim, n)
		for i := range r.Target.Claims {
			r.Target.Claims[i] = revocation.Claim{Name: d.common(), Value: d.value()}
		}
	case revocation.KindKeyID:
		r.Target.KeyID = d.text()
	case revocation.KindToken:
		copy(r.Target.Token[:], d.take(len(r.Target.Token)))
	case revocation.KindAll:
	default:
		return nil
	}
	if d.bad || len(d.b) != 0 {
		return nil
	}
	return r
}

// interner keeps one copy of each string that recurs in many records: issuers,
// claim names, names of credentials. One goroutine uses it.
type interner struct{ seen map[string]string }

func newInterner() *interner { return &interner{map[string]string{}} }

func (in *interner) string(b []byte) string {
	if s, ok := in.seen[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(in.seen) < 4096 {
		in.seen[s] = s
	}
	return s
}

// decoder reads a record. After the first fault it returns zero values.
type decoder struct {
	b   []byte
	in  *interner
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, n = true, len(d.b)+1
	}
	d.take(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, n = true, len(d.b)+1
	}
	d.take(n)
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	return d.take(int(min(n, uint64(len(d.b))+1)))
}

func (d *decoder) text() string   { return string(d.bytes()) }
func (d *decoder) common() string { return d.in.string(d.bytes()) }

func (d *decoder) value() revocation.Value {
	var raw any
	switch d.byte() {
	case 's':
		raw = d.text()
	case 'n':
		raw = json.Number(d.text())
	case 't':
		raw = true
	case 'f':
		raw = false
	default:
		d.bad = true
	}
	v, ok := revocation.ValueOf(raw)
	d.bad = d.bad || !ok
	return v
}
