package ledger

import (
	"log/slog"
	"sync"

	"rescind/revocation/linelimit"
	"rescind/revocation/printable"
)

// Lines a second. Strangers cause failed logins, and a weak credential causes
// refusals, so both are bounded. Their entries of the audit have bounds of their
// own.
const (
	loginLines   = 10
	refusalLines = 100 // of one credential
)

// announcer writes an info line for each change, each refusal and each failed
// login. The ledger calls it for all doors, so no door can forget a line.
type announcer struct {
	logger *slog.Logger
	logins *linelimit.Limit

	mu       sync.Mutex
	refusals map[string]*linelimit.Limit // by credential
}

func newAnnouncer(logger *slog.Logger) *announcer {
	return &announcer{
		logger: logger, refusals: map[string]*linelimit.Limit{},
		logins: linelimit.New(logger, slog.LevelInfo, "login failed", loginLines),
	}
}

// announce writes the line of an entry.
func (a *announcer) announce(e *AuditEntry) {
	line := lineOf(e)
	switch {
	case e.Action == ActAuthenticate:
		a.logins.Log(line...)
	case e.Outcome == Refused || e.Outcome == Denied:
		a.refusalsOf(e.By).Log(line...)
	default:
		a.logger.Info(messages[e.Outcome], line...)
	}
}

var messages = map[string]string{
	Accepted: "change accepted",
	Existing: "change in force already",
	Failed:   "change failed",
	DryRun:   "change rehearsed",
	Kept:     "event held",
}

// refusalsOf returns the limit of a credential. Credentials are those of the
// configuration.
func (a *announcer) refusalsOf(by string) *linelimit.Limit {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.refusals[by]
	if l == nil {
		l = linelimit.New(a.logger.With("by", printable.Clean(by, maxText)), slog.LevelInfo, "request refused", refusalLines)
		a.refusals[by] = l
	}
	return l
}

// close writes the numbers of the lines that were left out.
func (a *announcer) close() {
	a.logins.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.refusals {
		l.Close()
	}
}

// lineOf returns the attributes of the line of e. Requests choose texts, so the
// texts are cleaned and cut. The target is left out, because it names people.
func lineOf(e *AuditEntry) (line []any) {
	add := func(key, value string) {
		if value != "" {
			line = append(line, slog.String(key, printable.Clean(value, maxText)))
		}
	}
	add("operation", e.Action)
	if e.Outcome != Refused && e.Outcome != Denied { // the line has by already
		add("by", e.By)
	}
	add("from", e.From)
	if len(e.Issuers) > 0 {
		add("issuer", e.Issuers[0])
	}
	if more := len(e.Issuers) - 1 + e.IssuersOmitted; more > 0 {
		line = append(line, slog.Int("more_issuers", more))
	}
	add("id", e.ID)
	add("write", e.Write)
	if e.Count > 0 {
		line = append(line, slog.Int("count", e.Count))
	}
	if e.Revision > 0 {
		line = append(line, slog.Uint64("revision", e.Revision))
	}
	add("fault", e.Detail)
	return line
}
