package replica

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"rescind/revocation"
)

// overflow holds the records of a bucket whose key was taken in the open
// segment: a target that is revoked more than once, or two digests whose first
// eight bytes are equal.
//
// The records are sorted by digest, then by ID, in runs. So one digest may have
// any number of records: to add or to remove one takes a binary search. A look-up
// passes over a whole run if nothing in it denies the token.
type overflow struct {
	size atomic.Int64

	mu   sync.RWMutex // a writer holds it for a single record
	runs []*run       // sorted, none of them empty
}

// run is a sorted stretch of records.
type run struct {
	records []record
	reach   revocation.Micros // the furthest of the records
	expires revocation.Micros // the latest of the records
}

// runSize is the number of records at which a run is divided.
const runSize = 256

func (b *run) last() *record { return &b.records[len(b.records)-1] }

// setBounds sets reach and expires.
func (b *run) setBounds() {
	b.reach, b.expires = 0, 0
	for i := range b.records {
		b.include(&b.records[i])
	}
}

func (b *run) include(r *record) {
	b.reach, b.expires = max(b.reach, r.reach()), max(b.expires, r.expires)
}

// search returns where the first record is that is not before r. The caller
// holds mu.
func (o *overflow) search(r *record) (in, at int) {
	in = sort.Search(len(o.runs), func(i int) bool { return o.runs[i].last().compare(r) >= 0 })
	if in < len(o.runs) {
		records := o.runs[in].records
		at = sort.Search(len(records), func(i int) bool { return records[i].compare(r) >= 0 })
	}
	return in, at
}

// at returns the record that search found if it is r. The caller holds mu.
func (o *overflow) at(in, at int, r *record) (found record, ok bool) {
	if in == len(o.runs) || o.runs[in].records[at].compare(r) != 0 {
		return record{}, false
	}
	return o.runs[in].records[at], true
}

func (o *overflow) has(r *record) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	in, at := o.search(r)
	_, ok := o.at(in, at, r)
	return ok
}

// add adds r, which is not there yet.
func (o *overflow) add(r record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size.Add(1)
	in, at := o.search(&r)
	if in == len(o.runs) {
		if in == 0 {
			o.runs = []*run{{records: []record{r}, reach: r.reach(), expires: r.expires}}
			return
		}
		in--
		at = len(o.runs[in].records)
	}
	b := o.runs[in]
	b.records = slices.Insert(b.records, at, r)
	b.include(&r)
	if len(b.records) < runSize {
		return
	}
	upper := &run{records: slices.Clone(b.records[runSize/2:])}
	b.records = slices.Clip(b.records[:runSize/2])
	b.setBounds()
	upper.setBounds()
	o.runs = slices.Insert(o.runs, in+1, upper)
}

// remove removes the record that is the same entry as r, and returns it.
func (o *overflow) remove(r *record) (removed record, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	in, at := o.search(r)
	if removed, ok = o.at(in, at, r); !ok {
		return record{}, false
	}
	o.size.Add(-1)
	b := o.runs[in]
	if b.records = slices.Delete(b.records, at, at+1); len(b.records) == 0 {
		o.runs = slices.Delete(o.runs, in, in+1)
		return removed, true
	}
	b.setBounds()
	o.merge(in)
	return removed, true
}

// merge joins a run that has become small with the next one, so that runs
// stay few.
func (o *overflow) merge(in int) {
	if in+1 >= len(o.runs) {
		return
	}
	b, next := o.runs[in], o.runs[in+1]
	if len(b.records)+len(next.records) > runSize/2 {
		return
	}
	b.records = append(b.records, next.records...)
	b.reach, b.expires = max(b.reach, next.reach), max(b.expires, next.expires)
	o.runs = slices.Delete(o.runs, in+1, in+2)
}

// find answers q.
func (o *overflow) find(q *query) (a answer) {
	if o.size.Load() == 0 {
		return a
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	in, at := o.search(&record{digest: q.digest})
	for ; in < len(o.runs); in, at = in+1, 0 {
		b := o.runs[in]
		if b.records[at].digest != q.digest {
			break
		}
		a.present = true
		if b.reach > q.iat && b.expires > q.ended {
			for i := at; i < len(b.records) && b.records[i].digest == q.digest; i++ {
				if r := &b.records[i]; q.deniedBy(r) {
					a.denied, a.by = true, r.id
					return a
				}
			}
		}
	}
	return a
}

// after returns up to a run of the records behind r, or the first ones if r
// is nil. It copies them into buffer. A record that is there all the while is
// never missed by calls that go on from the last record of the call before.
func (o *overflow) after(r *record, buffer []record) []record {
	o.mu.RLock()
	defer o.mu.RUnlock()
	in, at := 0, 0
	if r != nil {
		if in, at = o.search(r); in < len(o.runs) && o.runs[in].records[at].compare(r) == 0 {
			at++
		}
	}
	for ; in < len(o.runs); in, at = in+1, 0 {
		if at < len(o.runs[in].records) {
			return append(buffer[:0], o.runs[in].records[at:]...)
		}
	}
	return nil
}

// each yields the records. It keeps neither readers nor the writer waiting.
func (o *overflow) each(yield func(*record) error) error {
	buffer := o.after(nil, make([]record, 0, runSize))
	for len(buffer) > 0 {
		for i := range buffer {
			if err := yield(&buffer[i]); err != nil {
				return err
			}
		}
		last := buffer[len(buffer)-1]
		buffer = o.after(&last, buffer)
	}
	return nil
}
