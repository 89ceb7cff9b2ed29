package intake

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/time/rate"

	"rescind/revocation/ledger"
	"rescind/revocation/printable"
)

// turned bounds the entries of the audit about requests that are turned away.
// Strangers can send such requests.
type turned struct {
	mu      sync.Mutex
	entries *rate.Limiter
	missing int
}

// maxFault bounds the text about a faulty request, in bytes.
const maxFault = 300

// Turn counts a request or a message whose sender or form is wrong, and writes it
// to the audit. The audit gets few of them, and each entry says how many are
// missing before it. from is the network address of the sender, or the URL that
// was asked.
func (d *Door) Turn(ctx context.Context, from string, err error) {
	d.count(outcomeTurned)
	missing, ok := d.turned.allow()
	if !ok {
		return
	}
	detail := clean(err.Error())
	if missing > 0 {
		detail += fmt.Sprintf(" (%d such requests before are not in the audit)", missing)
	}
	c := d.caller(ledger.Revoker)
	c.From = clean(from)
	_ = d.Authority.Refuse(ctx, d.Authority.Entry(&c, ledger.ActEvent), &ledger.Refusal{Detail: detail})
}

func (t *turned) allow() (missing int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.entries.Allow() {
		t.missing++
		return 0, false
	}
	missing, t.missing = t.missing, 0
	return missing, true
}

// clean returns a text that somebody else wrote in the form that people read.
func clean(s string) string { return printable.Clean(s, maxFault) }
