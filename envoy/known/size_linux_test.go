package known

import (
	"fmt"
	"testing"
)

// The memory that is said to be needed is that of two tables and of the ring of the
// largest Envoy.
func TestMostMemory(t *testing.T) {
	for entries, answer := range map[int]int{1024: 64, 65536: 256, 100000: 960} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			table, err := NewTable(Options{Entries: entries, Answer: answer, Prefix: "x-jwt-"})
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			r, err := newRing(maxWorkers, entries)
			if err != nil {
				t.Fatal(err)
			}
			defer r.memory.free()
			if got, want := MostMemory(entries, answer), uint64(2*len(table.memory.bytes)+len(r.memory.bytes)); got != want {
				t.Errorf("MostMemory(%d, %d) is %d, want %d", entries, answer, got, want)
			}
		})
	}
}
