package daemon

import (
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// look is how files appear to stat; nil stands for one that cannot be seen.
func look(files []string) []fs.FileInfo {
	seen := make([]fs.FileInfo, len(files))
	for i, name := range files {
		seen[i], _ = os.Stat(name)
	}
	return seen
}

// unchanged compares two looks at the same files.
func unchanged(a, b []fs.FileInfo) bool {
	return slices.EqualFunc(a, b, func(x, y fs.FileInfo) bool {
		if x == nil || y == nil {
			return x == nil && y == nil
		}
		return os.SameFile(x, y) && x.ModTime().Equal(y.ModTime()) && x.Size() == y.Size()
	})
}

// recheck is how often the files of a [reread] are looked at, at most.
const recheck = time.Second

// reread is a value that is made of files, and made again when they change. It
// is asked by many goroutines.
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

// current is the last good value. It is an error only that there never was one.
func (r *reread[T]) current() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.good && now.Sub(r.checked) < recheck {
		return r.value, nil
	}
	r.checked = now
	// The look comes first: what changes after it is seen the next time.
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
		r.logger.Error("a changed file is faulty; what was read before stays in force", "files", r.files, "error", err)
	default:
		if r.good {
			r.logger.Info("files reread", "files", r.files)
		}
		r.value, r.good = value, true
	}
	return r.value, nil
}
