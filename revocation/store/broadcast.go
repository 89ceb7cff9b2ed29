package store

import (
	"encoding/hex"
	"strings"

	"github.com/nats-io/nats.go"
)

// Nodes also send each other messages that no log keeps, because they are worth
// nothing an hour later. A node that is down misses them.

const broadcastSubjects = "rescind.tell."

func (l *Log) broadcastSubject() string {
	return broadcastSubjects + hex.EncodeToString([]byte(l.writer))
}

// Broadcast sends body to the other nodes that can be reached now. A standalone
// log has none.
func (l *Log) Broadcast(body []byte) error {
	if l.standalone() {
		return nil
	}
	conn, err := l.connected()
	if err != nil {
		return err
	}
	return conn.nats.Publish(l.broadcastSubject(), body)
}

// Subscribe calls receive with each message that another node broadcasts from
// now on, one call at a time, until Close. It is called once.
func (l *Log) Subscribe(receive func(node string, body []byte)) error {
	l.mu.Lock()
	l.receive = receive
	conn := l.conn
	if conn == nil {
		l.mu.Unlock()
		return nil
	}
	err := l.subscribe(conn)
	l.mu.Unlock()
	if err == nil && !l.standalone() {
		_ = conn.nats.FlushTimeout(answerTimeout) // a server that is away learns of the subscription when it is back
	}
	return err
}

// subscribe subscribes to the broadcasts over conn. The caller holds mu.
func (l *Log) subscribe(conn *connection) error {
	if l.receive == nil || l.standalone() {
		return nil
	}
	receive, own := l.receive, l.broadcastSubject()
	_, err := conn.nats.Subscribe(broadcastSubjects+"*", func(m *nats.Msg) {
		node, err := hex.DecodeString(strings.TrimPrefix(m.Subject, broadcastSubjects))
		if err == nil && m.Subject != own {
			receive(string(node), m.Data)
		}
	})
	return err
}
