package store

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// lastServerError is the last error that the embedded server logged. The server
// gives no other reason for a failed start or a failed write.
type lastServerError struct {
	logged chan struct{} // holds one element after an error, until somebody takes it
	text   atomic.Pointer[string]
}

func (e *lastServerError) String() string {
	if text := e.text.Load(); text != nil {
		return *text
	}
	return "it does not say why"
}

// irrelevant are the beginnings of warnings for a server with many clients and
// with a file of passwords.
var irrelevant = []string{"Maximum payloads over", "Plaintext passwords detected"}

// natsLogger writes the server's log to ours.
type natsLogger struct {
	log       *slog.Logger
	lastError *lastServerError
}

func (n *natsLogger) Noticef(format string, v ...any) { n.log.Debug(fmt.Sprintf(format, v...)) }
func (n *natsLogger) Debugf(string, ...any)           {}
func (n *natsLogger) Tracef(string, ...any)           {}

func (n *natsLogger) Warnf(format string, v ...any) {
	for _, beginning := range irrelevant {
		if strings.HasPrefix(format, beginning) {
			return
		}
	}
	n.log.Warn(fmt.Sprintf(format, v...))
}

func (n *natsLogger) Errorf(format string, v ...any) {
	if strings.HasPrefix(format, "Error trying to connect to route") || // a node that is down, or not up yet
		strings.Contains(format, "handshake error") { // a stranger, or a node with another authority
		n.log.Warn(fmt.Sprintf(format, v...))
		return
	}
	n.fail(fmt.Sprintf(format, v...))
}

func (n *natsLogger) Fatalf(format string, v ...any) { n.fail(fmt.Sprintf(format, v...)) }

func (n *natsLogger) fail(text string) {
	n.log.Error(text)
	n.lastError.text.Store(&text)
	select {
	case n.lastError.logged <- struct{}{}:
	default:
	}
}
