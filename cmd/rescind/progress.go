package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows on standard error how far an import is: a bar on a terminal, a
// line every few seconds elsewhere.
type progress struct {
	bar  *progressbar.ProgressBar // nil: no terminal
	w    io.Writer
	now  func() time.Time
	next time.Time // when the next line is due
}

const progressInterval = 5 * time.Second

// newProgress returns the progress over a file of size bytes. -1 is an unknown size.
func newProgress(a *app, size int64) *progress {
	p := &progress{w: a.errs, now: a.now, next: a.now().Add(progressInterval)}
	if a.terminal(a.errs) {
		if size == 0 {
			size = -1
		}
		p.bar = progressbar.NewOptions64(size,
			progressbar.OptionSetWriter(a.errs), progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine of its own
			progressbar.OptionSetDescription("0 lines"), progressbar.OptionSetRenderBlankState(true))
	}
	return p
}

// at shows that so many lines are in force, after so many bytes of the file.
func (p *progress) at(lines int, bytes int64) {
	if p.bar != nil {
		p.bar.Describe(grouped(lines) + " lines")
		_ = p.bar.Set64(bytes)
		return
	}
	if now := p.now(); !now.Before(p.next) {
		p.next = now.Add(progressInterval)
		note(p.w, "%s lines are in force", grouped(lines))
	}
}

// end clears the bar before other output.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
