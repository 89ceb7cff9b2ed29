package decisionlog

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/DeRuina/timberjack"
	"go.opentelemetry.io/otel/attribute"
)

// Output is where records go. It is called by one goroutine.
type Output interface {
	// Write returns how many of the first records it has taken.
	Write(ctx context.Context, records []*Record) (int, error)
	Close(ctx context.Context) error
}

// chunk is about how much is written at once: whole lines, and never more than
// a rotated file may have.
const chunk = 64 << 10

// Lines writes records to w, one a line, whole lines at a time. instance names
// this replica in each. w is closed with it if it is an io.Closer other than
// one of the standard streams, which a [File] is.
func Lines(w io.Writer, instance string) Output {
	return &lines{w: w, instance: instance, scratch: make([]attribute.KeyValue, 0, 32)}
}

type lines struct {
	w        io.Writer
	instance string
	buffer   []byte
	scratch  []attribute.KeyValue
	torn     bool // the last thing in w is a part of a line
}

func (l *lines) Write(_ context.Context, records []*Record) (written int, err error) {
	l.buffer = l.buffer[:0]
	for i, r := range records {
		if l.torn && len(l.buffer) == 0 {
			l.buffer = append(l.buffer, '\n') // what is torn is one line, not two
		}
		l.buffer = appendLine(l.buffer, r, l.instance, l.scratch)
		if len(l.buffer) < chunk && i < len(records)-1 {
			continue
		}
		n, err := l.w.Write(l.buffer)
		if err != nil {
			l.torn = l.torn || n > 0
			return written, err
		}
		l.torn, written, l.buffer = false, i+1, l.buffer[:0]
	}
	return written, nil
}

func (l *lines) Close(context.Context) error {
	if c, ok := l.w.(File); ok {
		return c.Close()
	}
	return nil
}

// File is a file that is rotated: when it would grow above a size it is given
// the time as a part of its name, and another is begun.
type File struct{ *timberjack.Logger }

// OpenFile makes a File that keeps at most files of sizeMB each, the one that
// is written to included: at least 2. That it can be written to is tried first.
func OpenFile(path string, sizeMB, files int) (File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return File{}, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	if err != nil {
		return File{}, err
	}
	if err := f.Close(); err != nil {
		return File{}, err
	}
	return File{&timberjack.Logger{Filename: path, MaxSize: sizeMB, MaxBackups: max(files, 2) - 1, FileMode: fileMode}}, nil
}

const fileMode = 0o600 // it says who does what
