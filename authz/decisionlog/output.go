package decisionlog

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/DeRuina/timberjack"
	"go.opentelemetry.io/otel/attribute"
)

// Output takes records. One goroutine calls it.
type Output interface {
	// Write writes the records in order, and returns how many it has written.
	Write(ctx context.Context, records []*Record) (int, error)
	Close(ctx context.Context) error
}

// writeSize is the approximate size of one write. A write has whole lines, and
// is smaller than a rotated file may be.
const writeSize = 64 << 10

// Lines returns an Output that writes records to w, one per line. instance is the
// name of this replica in each line. Closing the Output closes w only if w is a
// [File].
func Lines(w io.Writer, instance string) Output {
	return &lines{w: w, instance: instance, scratch: make([]attribute.KeyValue, 0, 32)}
}

type lines struct {
	w        io.Writer
	instance string
	buffer   []byte
	scratch  []attribute.KeyValue
	torn     bool // w ends with a part of a line
}

func (l *lines) Write(_ context.Context, records []*Record) (written int, err error) {
	l.buffer = l.buffer[:0]
	for i, r := range records {
		if l.torn && len(l.buffer) == 0 {
			l.buffer = append(l.buffer, '\n') // the torn line must not run into the next
		}
		l.buffer = appendLine(l.buffer, r, l.instance, l.scratch)
		if len(l.buffer) < writeSize && i < len(records)-1 {
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

// File is a rotated file. Before it grows above its size, it gets the time in its
// name, and a new file begins.
type File struct{ *timberjack.Logger }

// OpenFile returns a File that keeps at most files of sizeMB each, with the
// current one, and at least 2. It returns an error if path cannot be written.
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

const fileMode = 0o600 // it names subjects
