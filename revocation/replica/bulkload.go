package replica

import (
	"errors"
	"sync"

	"rescind/revocation"
)

// bulkLoad fills a set that nobody reads yet, while its caller reads or receives
// the next entries: with millions of entries both have work to do.
type bulkLoad struct {
	parts chan []revocation.Entry
	close func()
	done  chan struct{}
	err   error // valid after done
}

// startLoad starts to fill s. The caller must call end.
func startLoad(s *set, at clock) *bulkLoad {
	l := &bulkLoad{parts: make(chan []revocation.Entry, 8), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.parts) })
	go func() {
		defer close(l.done)
		l.err = s.fill(l.parts, at)
	}()
	return l
}

// add hands over a part, which the caller must not use any more.
func (l *bulkLoad) add(part []revocation.Entry) { l.parts <- part }

// end waits until all parts are in the set, and returns the first error. It may
// be called again.
func (l *bulkLoad) end() error {
	l.close()
	<-l.done
	return l.err
}

// fill applies parts until there are no more. After an error it discards them.
func (s *set) fill(parts <-chan []revocation.Entry, at clock) (err error) {
	var batch []revocation.Entry // several parts, because one part may be of one stripe alone
	apply := func() {
		if err == nil {
			err = errors.Join(s.apply(batch, nil, at), s.renew())
		}
		batch = batch[:0]
	}
	for part := range parts {
		if batch = append(batch, part...); len(batch) >= 4*stripes*partSize {
			apply()
		}
	}
	apply()
	return err
}
