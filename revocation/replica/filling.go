package replica

import (
	"errors"
	"sync"

	"rescind/revocation"
)

// filling puts in place what a set that nobody reads yet is made of, while the
// next of it is read: with millions of entries both have their work.
type filling struct {
	parts chan []revocation.Entry
	close func()
	done  chan struct{}
	err   error // once it is done
}

// fill begins; [filling.end] must be called.
func fill(s *set, clock revocation.Micros) *filling {
	f := &filling{parts: make(chan []revocation.Entry, 8), done: make(chan struct{})}
	f.close = sync.OnceFunc(func() { close(f.parts) })
	go func() {
		defer close(f.done)
		f.err = s.fill(f.parts, clock)
	}()
	return f
}

// add hands over a part.
func (f *filling) add(part []revocation.Entry) { f.parts <- part }

// end waits until all is in place, and says what went wrong. It may be called
// again.
func (f *filling) end() error {
	f.close()
	<-f.done
	return f.err
}

// fill applies parts until there are no more; after an error it only takes
// them.
func (s *set) fill(parts <-chan []revocation.Entry, clock revocation.Micros) (err error) {
	var batch []revocation.Entry // several parts, since one may be all of one shelf
	apply := func() {
		if err == nil {
			err = errors.Join(s.apply(batch, nil, clock), s.renew())
		}
		batch = batch[:0]
	}
	for part := range parts {
		if batch = append(batch, part...); len(batch) >= 4*shelves*partEntries {
			apply()
		}
	}
	apply()
	return err
}
