// Package linelimit bounds the lines of a log that somebody else can cause, for
// example by failed logins. A [Limit] writes some lines a second and counts the
// others. Once a second, and when it closes, it writes their number, so no line
// is left out without a word.
package linelimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// window is the time after which a limit begins anew.
const window = time.Second

// Limit bounds the lines with one message. It is safe for concurrent use. Its
// lock is not held while a line is written.
type Limit struct {
	logger  *slog.Logger
	level   slog.Level
	message string
	most    int

	mu         sync.Mutex
	lines      int
	suppressed int
	end        *time.Timer // of the window; nil between windows
}

// New returns a limit of most lines a second with the message.
func New(logger *slog.Logger, level slog.Level, message string, most int) *Limit {
	return &Limit{logger: logger, level: level, message: message, most: most}
}

// Log writes a line with args, as [slog.Logger.Log] takes them, or counts it.
func (l *Limit) Log(args ...any) {
	if l.admit() {
		l.logger.Log(context.Background(), l.level, l.message, args...)
	}
}

func (l *Limit) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end == nil {
		l.end = time.AfterFunc(window, l.Close)
	}
	if l.lines < l.most {
		l.lines++
		return true
	}
	l.suppressed++
	return false
}

// Close ends the window. If lines were suppressed, it writes a line with their
// number. A later line begins a new window.
func (l *Limit) Close() {
	l.mu.Lock()
	n := l.suppressed
	l.lines, l.suppressed = 0, 0
	if l.end != nil {
		l.end.Stop()
		l.end = nil
	}
	l.mu.Unlock()
	if n > 0 {
		l.logger.Log(context.Background(), l.level, l.message, "suppressed", n)
	}
}
