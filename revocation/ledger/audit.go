package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// AuditEntry is one line of the audit: who tried what, and what came of it.
type AuditEntry struct {
	At             time.Time `json:"at"`
	By             string    `json:"by,omitempty" doc:"Name of the credential; absent if there was none that is known"`
	Action         string    `json:"action" enum:"revoke,import,restore,read,authenticate,revoke_at_issuer"`
	Outcome        string    `json:"outcome" enum:"accepted,existing,refused,denied,failed,dry_run"`
	Issuers        []string  `json:"issuers,omitempty" doc:"Issuers that it was about"`
	IssuersOmitted int       `json:"issuers_omitted,omitempty" doc:"How many more issuers it was about"`
	ID             string    `json:"id,omitempty" doc:"The revocation that it was about"`
	Target         *Target   `json:"target,omitempty" doc:"What was to be revoked"`
	Count          int       `json:"count,omitempty" doc:"How many revocations, or how many attempts alike"`
	Revision       uint64    `json:"revision,omitempty" doc:"The revision that it came to, or that was there already"`
	Reason         string    `json:"reason,omitempty" doc:"As the request gave it"`
	Detail         string    `json:"detail,omitempty" doc:"Why it was refused, denied or failed"`
	From           string    `json:"from,omitempty" doc:"Network address of the caller"`
}

// What is tried, and what comes of it.
const (
	ActRevoke       = "revoke"
	ActImport       = "import"
	ActRestore      = "restore"
	ActRead         = "read"
	ActAuthenticate = "authenticate"
	ActIssuer       = "revoke_at_issuer" // the issuer was told of a revoked token

	Accepted = "accepted"
	Existing = "existing" // the same was in force, or restored, already
	Refused  = "refused"  // the request was wrong
	Denied   = "denied"   // the credential does not allow it
	Failed   = "failed"   // ours is the fault; it may have come into force all the same
	DryRun   = "dry_run"  // an action of an alert, that was only to be noted
)

// note is some lines on their way to the log. answer is called once, with nil
// when they are durable.
type note struct {
	entries []AuditEntry
	covers  uint64
	answer  func(error)
}

// noteEntries is how many lines share one message of the log.
const noteEntries = 256

// Record adds a line to the audit and returns when it is durable.
func (l *Ledger) Record(ctx context.Context, e AuditEntry) error {
	if err := l.Ready(); err != nil {
		return err
	}
	done := make(chan error, 1)
	select {
	case l.notes <- note{entries: []AuditEntry{e}, answer: func(err error) { done <- err }}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.Ready() != nil {
		l.drain()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// audit writes notes in the order in which they come, as many together as have
// come by then. Lines about what was accepted are kept until they are written,
// though their caller has been told of the failure.
func (l *Ledger) audit(ctx context.Context) error {
	var owed []AuditEntry
	var covers uint64
	for {
		var notes []note
		select {
		case n := <-l.notes:
			notes = append(notes, n)
		case <-ctx.Done():
			return ctx.Err()
		}
		entries := slices.Concat(owed, notes[0].entries)
		covers = max(covers, notes[0].covers)
	gather:
		for len(entries) < noteEntries {
			select {
			case n := <-l.notes:
				notes = append(notes, n)
				entries = append(entries, n.entries...)
				covers = max(covers, n.covers)
			default:
				break gather
			}
		}
		err := l.write(ctx, entries, covers)
		for _, n := range notes {
			n.answer(err)
			if err != nil && n.covers > 0 {
				owed = append(owed, n.entries...)
			}
		}
		if err == nil {
			owed, covers = nil, 0
		}
	}
}

func (l *Ledger) write(ctx context.Context, entries []AuditEntry, covers uint64) error {
	for i := range entries {
		entries[i] = entries[i].bounded()
	}
	body, err := appendJSON(nil, entries)
	if err == nil {
		_, err = l.log.Note(ctx, covers, body)
	}
	if err != nil {
		l.logger.Error("the audit cannot be written", "error", err, "lines", len(entries))
	}
	return err
}

// owe notes a batch that is in the log and has no note: its writer did not
// live to write it, or did not learn that it had succeeded. Of a large batch
// only the number is noted, by whom.
func (l *Ledger) owe(ctx context.Context, revision uint64, ops []operation) {
	var entries []AuditEntry
	for i := range ops {
		e := entryOf(&ops[i])
		e.Outcome, e.Revision, e.Count = Accepted, revision, 1
		e.Detail = "noted later: the caller may not have been told that it succeeded"
		if last := len(entries) - 1; len(ops) > noteEntries && last >= 0 && entries[last].By == e.By && entries[last].Action == e.Action {
			entries[last].Count++
			entries[last].ID, entries[last].Issuers, entries[last].Target, entries[last].Reason = "", nil, nil, ""
			continue
		}
		entries = append(entries, e)
	}
	l.logger.Warn("a revision had no note in the audit", "revision", revision)
	go l.hand(ctx, note{entries: entries, covers: revision, answer: func(error) {}})
}

// hand passes a note to the auditor, or answers it if there is none any more.
func (l *Ledger) hand(ctx context.Context, n note) {
	select {
	case l.notes <- n:
	case <-ctx.Done():
		n.answer(ErrNotReady)
	}
}

func entryOf(op *operation) AuditEntry {
	if op.packed != nil {
		r := unpack(op.packed, newInterner())
		return AuditEntry{At: r.CreatedAt, By: r.CreatedBy, Action: ActRevoke, Issuers: []string{r.Issuer},
			ID: op.entry.ID.String(), Target: TargetOf(&r.Target), Reason: r.Reason}
	}
	return AuditEntry{At: op.restore.At, By: op.restore.By, Action: ActRestore, ID: op.restore.ID.String()}
}

// AuditCursor is a place in the audit: a note and a line in it.
type AuditCursor struct {
	Note uint64
	Line int
}

var errBadNote = errors.New("a note of the audit cannot be read")

// Audit yields lines, newest first, from just before the cursor; the zero
// cursor begins at the end.
func (l *Ledger) Audit(ctx context.Context, before AuditCursor, yield func(AuditCursor, AuditEntry) bool) error {
	if err := l.Ready(); err != nil {
		return err
	}
	from := before.Note
	if from > 0 {
		from++ // the note itself may have lines left
	}
	var bad error
	err := l.log.Notes(ctx, from, func(number uint64, body []byte) bool {
		var entries []AuditEntry
		if err := json.Unmarshal(body, &entries); err != nil {
			bad = fmt.Errorf("%w: note %d: %w", errBadNote, number, err)
			return false
		}
		for i := len(entries) - 1; i >= 0; i-- {
			if number == before.Note && i >= before.Line {
				continue
			}
			if !yield(AuditCursor{number, i}, entries[i]) {
				return false
			}
		}
		return true
	})
	return errors.Join(err, bad)
}
