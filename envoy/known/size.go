package known

// stride is the size of an entry.
const stride = 320

// MostMemory returns the bytes of shared memory that a server of this many entries takes
// at most beside one Envoy. A new configuration has a table of its own while the one
// before is still there.
func MostMemory(entries int) uint64 {
	return uint64(2*sizeOfTable(entries) + sizeOfRing(maxWorkers, entries)) //nolint:gosec // sizes are positive
}

func sizeOfTable(entries int) int {
	return pages(tableHeadSize + buckets(entries)*bucketSize + entries*stride)
}

func sizeOfRing(workers, entries int) int {
	return pages(page + workers*(workerRingSize+ringCellsOfWorker*cellSize) + entries)
}

// pages returns a size that is rounded up to whole pages.
func pages(size int) int { return (size + page - 1) &^ (page - 1) }
