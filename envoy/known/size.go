package known

// DefaultAnswer is the room in an entry, in bytes, for the headers of a token.
const DefaultAnswer = 256

// strideOf returns the size of an entry with this room for an answer.
func strideOf(answer int) int {
	const line = 64 // bytes that a processor reads at once
	return (entryHead + answer + line - 1) &^ (line - 1)
}

// MostMemory returns the bytes of shared memory that a server of this many entries, with
// this room for each answer, takes at most beside one Envoy. A new configuration has a
// table of its own while the one before is still there.
func MostMemory(entries, answer int) uint64 {
	return uint64(2*sizeOfTable(entries, strideOf(answer)) + sizeOfRing(maxWorkers, entries)) //nolint:gosec // sizes are positive
}

func sizeOfTable(entries, stride int) int {
	return pages(tableHeadSize + buckets(entries)*bucketSize + entries*stride)
}

func sizeOfRing(workers, entries int) int {
	return pages(page + workers*(workerRingSize+ringCellsOfWorker*cellSize) + entries)
}

// pages returns a size that is rounded up to whole pages.
func pages(size int) int { return (size + page - 1) &^ (page - 1) }
