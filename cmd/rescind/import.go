package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

const importLong = `Imports many revocations from a file, or from standard input (-). Each line is
one JSON object as POST /v1/revocations takes it, such as
  {"issuer": "https://idp.example.com/", "claims": {"sub": "alice"}}

The file is sent in parts of at most 100,000 lines. A part is revoked as a whole
or not at all, and the command prints how to undo each part. A part after the
first one waits up to 20 s, so that an import leaves the processors to the
checks of tokens. The parts of an operator do not wait. After a failure the
command prints the line to go on from. To import the whole file again is safe
too, but a line without issued_before means now, so it then denies tokens of
later logins as well.

Each part is weighed as a revocation is: by the traffic seen lately that all of
its lines hit together. --dry-run prints that traffic for the whole file.`

// importer runs one import.
type importer struct {
	*app
	w        waitFlags
	guard    guardFlags
	client   *client
	reader   *partReader
	name     string // as it was given
	progress *progress

	sending []int // lines of the file
	status  int   // of the last answer
	total   imported
	lines   int                    // of the parts of a dry run
	impact  control.ImpactDocument // of the parts of a dry run
}

// imported is the answer to an import: that of its last part, the lines of all
// parts together, and the parts.
type imported struct {
	control.Import
	Parts []importedPart `json:"parts"`
}

// importedPart is one write of an import.
type importedPart struct {
	FirstLine int    `json:"first_line"`
	LastLine  int    `json:"last_line"`
	Revision  uint64 `json:"revision"`
	Write     string `json:"write,omitempty"` // empty: every line was in force before
}

func (a *app) importFile() *cobra.Command {
	i := &importer{app: a}
	from := 1
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Revoke many at once, from a file with one JSON object a line",
		Long:  importLong,
		Example: `  rescind import leavers.ndjson --wait
  rescind import leavers.ndjson --from-line 300001`,
		Args: exactly("a file, or - for standard input,"),
	}
	cmd.Flags().IntVar(&from, "from-line", 1, "begin at this `line`, as an earlier failure printed")
	i.guard.register(cmd)
	i.w.register(cmd)
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(i.w.check(cmd), i.guard.check(&i.w)); err != nil {
			return err
		}
		if from < 1 {
			return usage("--from-line %d: lines are counted from 1", from)
		}
		var err error
		if i.client, err = conn.open(); err != nil {
			return err
		}
		in, size, err := a.openInput(args[0])
		if err != nil {
			return err
		}
		defer in.Close() //nolint:errcheck // only read
		i.name, i.reader, i.progress = args[0], newPartReader(in), newProgress(a, size)
		if err := i.reader.skip(from - 1); err != nil {
			return err
		}
		return i.run(cmd.Context())
	}
	return cmd
}

// openInput opens the file. size is -1 if it is not known.
func (a *app) openInput(name string) (in io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(a.in), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, usage("%w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, 0, errors.Join(usage("%s is a folder", name), f.Close())
	case !info.Mode().IsRegular():
		return f, -1, nil
	}
	return f, info.Size(), nil
}

// run imports the parts one after the other, and prints the summary.
func (i *importer) run(ctx context.Context) error {
	i.status, i.total.Parts = http.StatusCreated, []importedPart{}
	begun := i.now()
	for {
		more, err := i.reader.next()
		i.sending = i.reader.numbers
		if err != nil {
			return i.stopped(err)
		}
		if !more {
			break
		}
		if err := i.send(ctx, i.reader.body, i.sending, i.reader.last()); err != nil {
			return i.stopped(err)
		}
	}
	i.progress.end()
	if i.guard.dryRun {
		return i.rehearsed()
	}
	if err := i.summary(i.now().Sub(begun)); err != nil {
		return err
	}
	return i.w.confirmed(i.status, i.total.Replicas)
}

// send posts the lines of body as one part, or in halves if the log does not take
// as much at once.
func (i *importer) send(ctx context.Context, body []byte, numbers []int, last bool) error {
	i.sending = numbers
	post := call{method: http.MethodPost, path: "/v1/revocations", body: body, contentType: "application/x-ndjson", wait: time.Minute}
	if last {
		i.w.addTo(&post)
	}
	i.guard.addTo(&post)
	res, err := i.client.do(ctx, post)
	var r *refusal
	if errors.As(err, &r) && r.Status == http.StatusRequestEntityTooLarge && len(numbers) > 1 {
		half := len(numbers) / 2
		at := endOfLine(body, half)
		i.reader.maxBytes = max(len(body)/2, maxLine) // for those to come
		if err := i.send(ctx, body[:at], numbers[:half], false); err != nil {
			return err
		}
		return i.send(ctx, body[at:], numbers[half:], last)
	}
	if err != nil {
		return explainGuard(err)
	}
	if i.guard.dryRun {
		return i.rehearse(res, len(numbers))
	}
	var done control.Import
	if err := res.into(&done); err != nil {
		return err
	}
	part := importedPart{FirstLine: numbers[0], LastLine: numbers[len(numbers)-1], Revision: done.Revision, Write: done.Write}
	i.status = res.status
	for _, w := range done.Warnings {
		note(i.errs, "warning: %s", printable.Quote(w))
	}
	done.Accepted += i.total.Accepted
	done.Write, done.Seen, done.Warnings = "", nil, nil // of this part alone
	i.total.Import = done
	i.total.Parts = append(i.total.Parts, part)
	i.progress.at(i.total.Accepted, i.reader.read)
	return nil
}

// rehearse takes in the answer to the dry run of one part.
func (i *importer) rehearse(res *answer, lines int) error {
	var part control.ImpactDocument
	if err := res.into(&part); err != nil {
		return err
	}
	addImpact(&i.impact, &part)
	i.lines += lines
	i.progress.at(i.lines, i.reader.read)
	return nil
}

// rehearsed prints the outcome of a dry run. The parts together may exceed the
// share that none of them exceeds; each part is weighed on its own.
func (i *importer) rehearsed() error {
	if i.output == "json" {
		return i.printValue(i.impact)
	}
	if i.lines == 0 {
		_, err := fmt.Fprintln(i.out, "there is nothing to import")
		return err
	}
	if _, err := fmt.Fprintf(i.out, "%s lines can be imported\n", grouped(i.lines)); err != nil {
		return err
	}
	return i.printImpact(&i.impact)
}

// summary prints the outcome of an import.
func (i *importer) summary(took time.Duration) error {
	if i.output == "json" {
		return i.printValue(i.total)
	}
	if i.total.Accepted == 0 {
		_, err := fmt.Fprintln(i.out, "there is nothing to import")
		return err
	}
	rate := float64(i.total.Accepted) / max(took, time.Millisecond).Seconds()
	_, err := fmt.Fprintf(i.out, "%s revocations are in force as of revision %d; that took %s, %s a second\n",
		grouped(i.total.Accepted), i.total.Revision, took.Round(time.Millisecond), grouped(int(rate)))
	if t := inForce(i.total.Replicas); t != "" && err == nil {
		_, err = fmt.Fprintln(i.out, t)
	}
	if undo := i.undo(); undo != "" && err == nil {
		_, err = fmt.Fprintln(i.out, undo)
	}
	return err
}

// undo returns the commands that undo the parts that are in force. It is empty if
// every line was in force before.
func (i *importer) undo() string {
	var lines []string
	for _, p := range i.total.Parts {
		if p.Write != "" {
			lines = append(lines, fmt.Sprintf("to undo lines %d to %d: rescind restore --revision %d --write %s", p.FirstLine, p.LastLine, p.Revision, p.Write))
		}
	}
	return strings.Join(lines, "\n")
}

// stopped returns an error that says how far the import has got and how to go on.
// All lines before the failed part are in force. No line of the failed part is,
// unless the outcome is not known.
func (i *importer) stopped(err error) error {
	i.progress.end()
	f := &failure{status: statusFailed, message: err.Error(), cause: err}
	_ = errors.As(err, &f)
	first, last := i.reader.lines+1, i.reader.lines+1
	if len(i.sending) > 0 {
		first, last = i.sending[0], i.sending[len(i.sending)-1]
	}
	next := "to go on"
	var r *refusal
	if errors.As(err, &r) {
		f.faults = nil
		for _, e := range r.Errors {
			f.faults = append(f.faults, faultOf(e, i.lineOf(e.Line)))
		}
		if r.Status == http.StatusUnprocessableEntity {
			f.message = "lines of the file are faulty:"
			next = "to go on, once the lines are correct"
		}
	}
	outcome := "none of them was revoked"
	if undecided(err) && !errors.Is(err, errLine) {
		outcome = "whether they were revoked is not known, and sending them again is safe"
	}
	hint := fmt.Sprintf("it stopped at lines %d to %d: %s", first, last, outcome)
	if i.total.Accepted > 0 {
		hint += fmt.Sprintf("; the %s revocations before them are in force", grouped(i.total.Accepted))
	}
	if undo := i.undo(); undo != "" {
		hint += "\n" + undo
	}
	hint += fmt.Sprintf("\n%s: rescind import %s --from-line %d", next, shellQuote(i.name), first)
	if f.hint != "" {
		hint += "\n" + f.hint
	}
	f.hint = hint
	return f
}

// lineOf returns the line of the file for a line of the body, or 0.
func (i *importer) lineOf(n int) int {
	if n < 1 || n > len(i.sending) {
		return 0
	}
	return i.sending[n-1]
}
