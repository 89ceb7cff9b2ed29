package ledger

import (
	"slices"

	"rescind/revocation"
)

// censusMinutes is for how long a row is counted after its end. A replica counts
// by the time of a heartbeat, which may be a moment old.
const censusMinutes = 10

// sweep drops the rows that have expired at now.
func (r *rows) sweep(now revocation.Micros) {
	r.census.Forget(now.Minute() - censusMinutes)
	for _, c := range r.chunks {
		if c.soonest <= now {
			r.sweepChunk(c, now)
		}
	}
	r.chunks = slices.DeleteFunc(r.chunks, func(c *chunk) bool {
		if len(c.rows) > 0 {
			return false
		}
		r.numbers[c.number] = nil
		r.free = append(r.free, c.number)
		return true
	})
}

// sweepChunk drops the expired rows of c, and closes the holes if that frees half
// of the chunk or more. Readers pass over a hole by its expiry.
func (r *rows) sweepChunk(c *chunk, now revocation.Micros) {
	left, size := 0, 0
	c.soonest = never
	for i := range c.rows {
		w := &c.rows[i]
		switch {
		case w.expires > now:
			left++
			size += int(w.size)
			c.soonest = min(c.soonest, w.expires)
		case w.state != gone:
			r.drop(w)
		}
	}
	if left > len(c.rows)/2 {
		return
	}
	kept, text := c.rows[:0], make([]byte, 0, size)
	for i := range c.rows {
		w := c.rows[i]
		if w.state == gone {
			continue
		}
		r.move(&w, c.slot(len(kept)))
		off := int(w.text)
		w.text = uint32(len(text))
		text = append(text, c.text[off:off+int(w.size)]...)
		kept = append(kept, w)
	}
	c.rows, c.text = slices.Clone(kept), text
}

// drop forgets a row that has expired. The rows that it covered have expired
// too, because a cover ends last.
func (r *rows) drop(w *row) {
	if w.state == standing {
		r.end(w)
	}
	w.state = gone
	delete(r.restorations, w.id())
	r.shapes.drop(w.shape)
	r.leave(w)
	r.unlink(w)
}

// unlink takes w out of its chain.
func (r *rows) unlink(w *row) {
	if w.next != 0 {
		older := r.at(w.next - 1)
		older.prev = w.prev
	}
	switch {
	case w.prev != 0:
		newer := r.at(w.prev - 1)
		newer.next = w.next
	case w.next != 0:
		r.index[key(w.digest)] = w.next - 1
	default:
		delete(r.index, key(w.digest))
	}
}

// move updates the chain of w, which is at s now.
func (r *rows) move(w *row, s slot) {
	if w.next != 0 {
		older := r.at(w.next - 1)
		older.prev = s + 1
	}
	if w.prev != 0 {
		newer := r.at(w.prev - 1)
		newer.next = s + 1
	} else {
		r.index[key(w.digest)] = s
	}
}
