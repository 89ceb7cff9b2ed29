package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollInterval is the time between two looks of [Watch] without a notice. Not every
// file system gives notice of changes, and none does behind a symlink.
const pollInterval = 5 * time.Second

// Watch calls onChange when a file has changed and then stayed the same for
// debounce, and at each SIGHUP. It returns when ctx ends. onChange then does not
// run, and it never runs twice at once.
func Watch(ctx context.Context, files []string, debounce time.Duration, logger *slog.Logger, onChange func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	w := watch{look: func() bool { return false }, hup: hup, debounce: debounce, onChange: onChange}
	seen := look(files)
	w.look = func() bool {
		before := seen
		seen = look(files)
		return !unchanged(before, seen)
	}
	notes, err := watchFolders(files)
	if err != nil {
		logger.Warn("the system gives no notice of changed files; they are looked at every few seconds instead", "error", err)
	} else {
		defer notes.Close() //nolint:errcheck // nothing was written
		w.events, w.errors = notes.Events, notes.Errors
	}
	w.run(ctx)
}

// watchFolders watches the folders, not the files: a file that is replaced by
// a rename is another file.
func watchFolders(files []string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, name := range files {
		if dir := filepath.Dir(name); !slices.Contains(folders, dir) {
			folders = append(folders, dir)
		}
	}
	for _, dir := range folders {
		if err := w.Add(dir); err != nil {
			_ = w.Close()
			return nil, err
		}
	}
	return w, nil
}

// watch is the loop of [Watch]. An event only causes a look, because stat alone
// says whether a file has changed.
type watch struct {
	look     func() bool // reports a change since the last look
	events   <-chan fsnotify.Event
	errors   <-chan error // after one, events may be lost
	hup      <-chan os.Signal
	debounce time.Duration
	onChange func()
}

func (w *watch) run(ctx context.Context) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.hup:
			w.look()
			settled.Stop()
			w.onChange()
			continue
		case <-settled.C:
			w.onChange()
			continue
		case _, ok := <-w.events:
			if !ok { // no more events; the polling goes on
				w.events, w.errors = nil, nil
			}
		case <-w.errors: //nolint:errcheck // after any error a look is right
		case <-poll.C:
		}
		if w.look() {
			settled.Reset(w.debounce)
		}
	}
}
