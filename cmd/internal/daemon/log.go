package daemon

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"rescind/revocation/printable"
	"rescind/revocation/rpcerror"
)

// NewLogger returns a logger that writes lines at or above level to w, as text
// or else as JSON. Both write a duration as text with its unit, for example
// 1.5s, because slog writes a bare number of nanoseconds into JSON. An error is
// written without the nesting of gRPC, and no text has a character that is not
// printable, beside the line breaks of a stack.
func NewLogger(format string, level slog.Leveler, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// readable returns a as people can read it.
func readable(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindString:
		a.Value = slog.StringValue(plain(a.Value.String()))
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(plain(err.Error()))
		}
	default: // numbers, times and groups, whose attributes come by themselves
	}
	return a
}

func plain(text string) string {
	text = rpcerror.Text(text)
	if printable.Valid(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if printable.Rune(r) || r == '\n' || r == '\t' {
			return r
		}
		return utf8.RuneError
	}, text)
}

// LogStarted logs that a process begins, with its build and its configuration
// file.
func LogStarted(logger *slog.Logger, version, commit, config string) {
	logger.Info("started", "version", version, "commit", commit, "go", runtime.Version(), "config", config)
}

// LogFailed logs that a process ends with an error. The command prints the error
// again for the person who started it.
func LogFailed(logger *slog.Logger, err error) {
	if err != nil {
		logger.Error("failed", "error", err)
	}
}

// readyPoll is the time between two looks of logReady.
const readyPoll = 50 * time.Millisecond

// logReady logs once, when nothing is missing for the first time, and tells the
// service manager. Until then the service manager has the missing parts as the
// status. logReady returns when nothing is missing, or when ctx ends.
func logReady(ctx context.Context, logger *slog.Logger, ready func() Readiness) {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	told := ""
	for {
		missing := strings.Join(ready().Missing, "; ")
		if missing == "" {
			break
		}
		if missing != told {
			notify(logger, "STATUS=not ready: "+missing)
			told = missing
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
	logger.Info("ready")
	notify(logger, "READY=1\nSTATUS=ready")
}
