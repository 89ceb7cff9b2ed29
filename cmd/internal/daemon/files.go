package daemon

import (
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// look returns the files as stat shows them, with nil for a file that stat cannot
// see.
func look(files []string) []fs.FileInfo {
	seen := make([]fs.FileInfo, len(files))
	for i, name := range files {
		seen[i], _ = os.Stat(name)
	}
	return seen
}

// unchanged reports whether two looks at the same files are equal.
func unchanged(a, b []fs.FileInfo) bool {
	return slices.EqualFunc(a, b, func(x, y fs.FileInfo) bool {
		if x == nil || y == nil {
			return x == nil && y == nil
		}
		return os.SameFile(x, y) && x.ModTime().Equal(y.ModTime()) && x.Size() == y.Size()
	})
}

// recheck is the least time between two looks at the files of a [reread].
const recheck = time.Second

// reread is a value that is read from files, and read again when they change.
// Many goroutines use it.
type reread[T any] struct {
	files  []string
	read   func() (T, error)
	logger *slog.Logger

	mu      sync.Mutex
	checked time.Time
	seen    []fs.FileInfo // as of the last reading, good or not
	value   T
	good    bool // value has been read
}

func newReread[T any](logger *slog.Logger, read func() (T, error), files ...string) *reread[T] {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	files = slices.DeleteFunc(files, func(name string) bool { return name == "" })
	return &reread[T]{files: files, read: read, logger: logger}
}

// current returns the last good value. It fails only if there never was one.
func (r *reread[T]) current() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.good && now.Sub(r.checked) < recheck {
		return r.value, nil
	}
	r.checked = now
	// The look comes before the reading: the next look sees a later change.
	seen := look(r.files)
	if r.good && unchanged(seen, r.seen) {
		return r.value, nil
	}
	r.seen = seen
	value, err := r.read()
	switch {
	case err != nil && !r.good:
		return value, err
	case err != nil:
		r.logger.Error("a changed file is faulty; its last good content stays in force", "files", r.files, "error", err)
	default:
		if r.good {
			r.logger.Info("files reread", "files", r.files)
		}
		r.value, r.good = value, true
	}
	return r.value, nil
}
