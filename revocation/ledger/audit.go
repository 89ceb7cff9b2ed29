package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rescind/revocation"
)

// AuditEntry is one entry of the audit: an attempt of a caller, and its outcome.
type AuditEntry struct {
	At             time.Time `json:"at"`
	By             string    `json:"by,omitempty" doc:"Name of the credential; absent if the credential is not known"`
	Action         string    `json:"action" enum:"revoke,import,restore,read,authenticate,revoke_at_issuer,event,release,drop"`
	Outcome        string    `json:"outcome" enum:"accepted,existing,refused,denied,failed,dry_run,held"`
	Issuers        []string  `json:"issuers,omitempty" doc:"Issuers of the revocations"`
	IssuersOmitted int       `json:"issuers_omitted,omitempty" doc:"How many more issuers the entry leaves out"`
	ID             string    `json:"id,omitempty" doc:"The revocation"`
	Target         *Target   `json:"target,omitempty" doc:"The target of the revocation"`
	Write          string    `json:"write,omitempty" doc:"The write that an import made, or that was restored: the ID of its first revocation"`
	Count          int       `json:"count,omitempty" doc:"Number of revocations, or of equal attempts"`
	Revision       uint64    `json:"revision,omitempty" doc:"The revision of the change, or the revision that already had it"`
	Reason         string    `json:"reason,omitempty" doc:"As the request gave it"`
	Detail         string    `json:"detail,omitempty" doc:"Why the attempt was refused, denied or failed"`
	Intake         string    `json:"intake,omitempty" doc:"The intake whose held event it is about"`
	Held           string    `json:"held,omitempty" doc:"ID of the held event, as in rescind intakes"`
	From           string    `json:"from,omitempty" doc:"Network address of the caller"`
}

// Actions and outcomes of an entry.
const (
	ActRevoke       = "revoke"
	ActImport       = "import"
	ActRestore      = "restore"
	ActRead         = "read"
	ActAuthenticate = "authenticate"
	ActIssuer       = "revoke_at_issuer" // the issuer was told of a revoked token
	ActEvent        = "event"            // an intake took an event, and made no revocation of it
	ActRelease      = "release"          // an operator released a held event
	ActDrop         = "drop"             // an operator dropped a held event

	Accepted = "accepted"
	Existing = "existing" // the same was in force, or restored, already
	Refused  = "refused"  // the request was wrong
	Denied   = "denied"   // the credential does not allow it
	Failed   = "failed"   // the control endpoint failed; the change may be in force all the same
	DryRun   = "dry_run"  // an alert action or an intake that revokes nothing
	Kept     = "held"     // an intake keeps the event until an operator releases or drops it
)

// note is some entries on their way to the log. answer is called once, with nil
// when they are durable.
type note struct {
	entries []AuditEntry
	logged  bool   // the log has a line for each entry already
	covers  uint64 // last revision of this writer that the entries are about; 0 is none
	answer  func(error)
}

// noteEntries is how many entries share one message of the log.
const noteEntries = 256

// Record adds an entry to the audit and to the log, and returns when it is
// durable.
func (l *Ledger) Record(ctx context.Context, e AuditEntry) error {
	l.lines.announce(&e)
	return l.record(ctx, e)
}

// record adds an entry to the audit alone.
func (l *Ledger) record(ctx context.Context, e AuditEntry) error {
	if err := l.Ready(); err != nil {
		return err
	}
	done := make(chan error, 1)
	select {
	case l.notes <- note{entries: []AuditEntry{e}, logged: true, answer: func(err error) { done <- err }}:
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

// audit writes notes in their order, as many together as wait. Entries of
// accepted changes are kept until they are written, although their caller got an
// error. Each entry gets its line in the log, after its caller has the answer. A
// caller that no longer waits for its change does not lose the line.
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
		l.announceAll(notes)
	}
}

// announceAll logs the entries of notes that have no line yet.
func (l *Ledger) announceAll(notes []note) {
	for i := range notes {
		if notes[i].logged {
			continue
		}
		for j := range notes[i].entries {
			l.lines.announce(&notes[i].entries[j])
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
		l.logger.Error("audit not written", "error", err, "entries", len(entries))
	}
	return err
}

// noteLate writes the note of a batch that is in the log without one. Its writer
// ended before it wrote the note, or did not learn that the append succeeded. A
// write of several revocations has one entry. The note of a large batch has the
// number of changes of each caller alone.
func (l *Ledger) noteLate(ctx context.Context, revision uint64, ops []operation) {
	var entries []AuditEntry
	for i := range ops {
		op := &ops[i]
		e := entryOf(op)
		e.Outcome, e.Revision = Accepted, revision
		e.Detail = "noted later: the caller may not have got an answer"
		last := AuditEntry{}
		if n := len(entries); n > 0 {
			last = entries[n-1]
		}
		sameWrite := op.packed != nil && op.write < op.entry.ID.Index
		if len(entries) == 0 || last.By != e.By || !sameWrite && (len(ops) <= noteEntries || last.Action != e.Action || last.Write+e.Write != "") {
			entries = append(entries, e)
			continue
		}
		if sameWrite {
			last.Action, last.Write = ActImport, revocation.ID{Revision: revision, Index: op.write}.String()
		}
		last.Count++
		last.ID, last.Issuers, last.Target, last.Reason = "", nil, nil, ""
		entries[len(entries)-1] = last
	}
	l.logger.Warn("revision had no note in the audit, writing it now", "revision", revision)
	go l.pass(ctx, note{entries: entries, covers: revision, answer: func(error) {}})
}

// pass passes a note to the auditor. If the auditor has ended, it answers the
// note.
func (l *Ledger) pass(ctx context.Context, n note) {
	select {
	case l.notes <- n:
	case <-ctx.Done():
		n.answer(ErrNotReady)
	}
}

// entryOf returns the entry of an operation of the log.
func entryOf(op *operation) AuditEntry {
	if op.packed != nil {
		r := unpack(op.packed, newInterner())
		return AuditEntry{At: r.CreatedAt, By: r.CreatedBy, Action: ActRevoke, Issuers: []string{r.Issuer}, Count: 1,
			ID: op.entry.ID.String(), Target: TargetOf(&r.Target), Reason: r.Reason}
	}
	r := &op.restore
	e := AuditEntry{At: r.At, By: r.By, Action: ActRestore, ID: r.ID.String(), Count: 1}
	if r.Count > 1 {
		e.ID, e.Write, e.Count = "", r.ID.String(), int(r.Count)
	}
	return e
}

// AuditCursor is a place in the audit: a note and an entry in it.
type AuditCursor struct {
	Note uint64
	Line int
}

var errBadNote = errors.New("a note of the audit cannot be read")

// clockDifference is how far the clocks of the nodes and of the log may differ.
const clockDifference = 5 * time.Minute

// Audit yields entries, newest first, from just before the cursor. The zero cursor
// begins at the newest entry. Audit ends where all earlier entries are before
// since. It may yield some of them, because the log is in the order of writing.
func (l *Ledger) Audit(ctx context.Context, before AuditCursor, since time.Time, yield func(AuditCursor, AuditEntry) bool) error {
	if err := l.Ready(); err != nil {
		return err
	}
	from := before.Note
	if from > 0 {
		from++ // the note of the cursor may have entries left
	}
	var bad error
	err := l.log.Notes(ctx, from, func(number uint64, at time.Time, body []byte) bool {
		// An entry is written after its time, so it is not later than its note.
		if !since.IsZero() && at.Before(since.Add(-clockDifference)) {
			return false
		}
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
