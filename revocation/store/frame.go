package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// A frame is the payload of one message:
//
//	magic 2 | format 1 | 0 | crc32c 4 | given up 4 | before 8 | noted 8 | body
//
// all big endian. The checksum is over the log's identity, the revision (0 in
// the audit) and everything after it.
type frame struct {
	givenUp uint32 // hours up to this one are purged, or will be next
	before  uint64 // messages of later hours before this one
	noted   uint64 // the last note of the audit at that time
	body    []byte
}

const (
	magic      = "Rv"
	headerSize = 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (f *frame) encode(log string, revision uint64) []byte {
	b := make([]byte, headerSize, headerSize+len(f.body))
	copy(b, magic)
	b[2] = format
	binary.BigEndian.PutUint32(b[8:], f.givenUp)
	binary.BigEndian.PutUint64(b[12:], f.before)
	binary.BigEndian.PutUint64(b[20:], f.noted)
	b = append(b, f.body...)
	binary.BigEndian.PutUint32(b[4:], checksum(log, revision, b[8:]))
	return b
}

// decodeFrame returns a frame whose body lies in b.
func decodeFrame(log string, revision uint64, b []byte) (frame, error) {
	switch {
	case len(b) < headerSize || string(b[:2]) != magic:
		return frame{}, fmt.Errorf("%w: revision %d is not a batch of ours", ErrDamaged, revision)
	case b[2] != format:
		return frame{}, fmt.Errorf("revision %d of the log has format %d, this program knows format %d: use the version of rescind that wrote it", revision, b[2], format)
	case binary.BigEndian.Uint32(b[4:]) != checksum(log, revision, b[8:]):
		return frame{}, fmt.Errorf("%w: the checksum of revision %d is wrong", ErrDamaged, revision)
	}
	return frame{
		givenUp: binary.BigEndian.Uint32(b[8:]),
		before:  binary.BigEndian.Uint64(b[12:]),
		noted:   binary.BigEndian.Uint64(b[20:]),
		body:    b[headerSize:],
	}, nil
}

func checksum(log string, revision uint64, b []byte) uint32 {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], revision)
	c := crc32.Update(0, castagnoli, []byte(log))
	c = crc32.Update(c, castagnoli, seed[:])
	return crc32.Update(c, castagnoli, b)
}

// hourOf is the hour at whose end t has passed.
func hourOf(t time.Time) uint32 {
	return uint32((t.Unix() + 3600) / 3600)
}

func hourSubject(hour uint32) string { return batchSubjects + strconv.FormatUint(uint64(hour), 10) }

func subjectHour(subject string) (uint32, error) {
	rest, ok := strings.CutPrefix(subject, batchSubjects)
	h, err := strconv.ParseUint(rest, 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("%w: a batch lies under %q", ErrDamaged, subject)
	}
	return uint32(h), nil
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
