package known

import (
	"fmt"
	"testing"
)

// The memory that is said to be needed is that of two tables and of the ring of the
// largest Envoy.
func TestMostMemory(t *testing.T) {
	for _, entries := range []int{1024, 65536, 100000} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			table, err := NewTable(Options{Entries: entries, Prefix: "x-jwt-"})
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			r, err := newRing(maxWorkers, entries)
			if err != nil {
				t.Fatal(err)
			}
			defer r.memory.free()
			if got, want := MostMemory(entries), uint64(2*len(table.memory.bytes)+len(r.memory.bytes)); got != want {
				t.Errorf("MostMemory(%d) is %d, want %d", entries, got, want)
			}
		})
	}
}
