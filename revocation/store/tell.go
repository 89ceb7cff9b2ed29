package store

import (
	"encoding/hex"
	"strings"

	"github.com/nats-io/nats.go"
)

// Nodes also tell each other what is worth nothing an hour later and is in no
// log: it goes to whoever is up, and may be lost.

const tellSubjects = "rescind.tell."

func (l *Log) tellSubject() string { return tellSubjects + hex.EncodeToString([]byte(l.writer)) }

// Tell sends body to the other nodes that can be reached now. Alone there are
// none.
func (l *Log) Tell(body []byte) error {
	if l.alone() {
		return nil
	}
	k, err := l.current()
	if err != nil {
		return err
	}
	return k.conn.Publish(l.tellSubject(), body)
}

// Hear has f called with what the other nodes tell from now on, one call at a
// time, until Close. It is called once.
func (l *Log) Hear(f func(node string, body []byte)) error {
	l.mu.Lock()
	l.heard = f
	k := l.link
	if k == nil {
		l.mu.Unlock()
		return nil
	}
	err := l.listen(k)
	l.mu.Unlock()
	if err == nil && !l.alone() {
		_ = k.conn.FlushTimeout(unanswered) // a server that is away hears of it when it is back
	}
	return err
}

// listen subscribes to what is told over a link. The caller holds mu.
func (l *Log) listen(k *link) error {
	if l.heard == nil || l.alone() {
		return nil
	}
	heard, own := l.heard, l.tellSubject()
	_, err := k.conn.Subscribe(tellSubjects+"*", func(m *nats.Msg) {
		node, err := hex.DecodeString(strings.TrimPrefix(m.Subject, tellSubjects))
		if err == nil && m.Subject != own {
			heard(string(node), m.Data)
		}
	})
	return err
}
