package known

import "math/bits"

// The layout of the shared memory, as envoy/module/table.h describes it. Offsets and
// sizes are in bytes.
const (
	tableMagic = 0x31306e776f6e6b72
	ringMagic  = 0x3130676e69726b72
	layout     = 1
	page       = 4096

	maxWorkers  = 64
	entryHead   = 64
	maxStride   = 1024
	sameValue   = 0xffff
	bucketSize  = 64
	bucketSlots = 4

	headMagic       = 0
	headLayout      = 8
	headSize        = 16
	headIndexAt     = 24
	headBuckets     = 32
	headEntriesAt   = 40
	headEntries     = 48
	headStride      = 56
	headNames       = 64
	headPolicies    = 72
	headHide        = 80
	headBeat        = 88
	headOpen        = 96
	headEpoch       = 104
	headRevision    = 112
	headAudit       = 120
	headPrefix      = 128
	headName        = headPrefix + nameSize
	headPolicy      = page
	policySize      = 16 + nameSize
	nameSize        = 48
	tableHeadSize   = page + MaxPolicies*policySize
	ringMagicAt     = 0
	ringLayout      = 8
	ringSize        = 16
	ringWorkers     = 24
	ringCells       = 32
	ringUsedAt      = 40
	ringEntries     = 48
	workerRingSize  = 192
	workerTail      = 0
	workerHits      = 8
	workerDrops     = 16
	workerUnwatched = 24
	workerHead      = 64
	workerMisses    = 128
	cellSize        = 64
)

// Kinds of items of an answer.
const (
	itemHeader = iota
	itemIssuer
	itemSubject
	itemTokenID
)

// Reasons why the module left a request to ext_authz.
const (
	missRequest = iota
	missClosed
	missUnknown
	missEnded
	missRace
	missAudit
	missAnswer
	missKinds
)

// Misses are the names of these reasons.
var Misses = [missKinds]string{"request", "closed", "unknown", "ended", "race", "audit", "answer"}

// Kinds of messages over the socket.
const (
	messageHello = iota + 1
	messageTable
	messageStreamOpened
	messageStreamClosed
	messageStreamEnd
)

// buckets returns the number of buckets for so many entries: a power of two with
// twice as many slots or more.
func buckets(entries int) int { return 1 << bits.Len(uint(entries/2)) }
