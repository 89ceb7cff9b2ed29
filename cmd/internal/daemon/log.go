package daemon

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"time"
)

// NewLogger returns a logger that writes lines at or above level to w, as text
// or else as JSON. Both write a duration as text with its unit, for example
// 1.5s, because slog writes a bare number of nanoseconds into JSON.
func NewLogger(format string, level slog.Leveler, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// LogStarted logs that a process begins, with its build and its configuration
// file.
func LogStarted(logger *slog.Logger, version, commit, config string) {
	logger.Info("started", "version", version, "commit", commit, "go", runtime.Version(), "config", config)
}

// readyPoll is the time between two looks of logReady.
const readyPoll = 50 * time.Millisecond

// logReady logs once, when nothing is missing for the first time. It returns
// then, or when ctx ends.
func logReady(ctx context.Context, logger *slog.Logger, ready func() Readiness) {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for len(ready().Missing) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
	logger.Info("ready")
}
