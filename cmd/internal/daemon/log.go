package daemon

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes lines at or above level to w, as text
// or else as JSON.
func NewLogger(format string, level slog.Leveler, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
