package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/terminal"
	"rescind/revocation"
	"rescind/revocation/control"
	"rescind/revocation/ledger"
	"rescind/revocation/printable"
)

const restoreLong = `Undoes one revocation, or all that one write revoked. Others that match the same
tokens stay in force.

An import prints the command that undoes each of its parts. rescind audit shows
the write of each import too. A revision holds more than one write if several
callers revoked at the same moment; --write then picks one. All of a write is
restored, or nothing.`

// writeFlags name a write.
type writeFlags struct {
	revision uint64
	write    string
}

func (a *app) restore() *cobra.Command {
	var w waitFlags
	var of writeFlags
	cmd := &cobra.Command{
		Use:   "restore {ID | --revision N [--write ID]}",
		Short: "Undo one revocation, or a whole import",
		Long:  restoreLong,
		Example: `  rescind restore r17.0 --wait
  rescind restore --revision 17 --write r17.0`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("revision") || cmd.Flags().Changed("write") {
				return of.check(cmd, args)
			}
			return exactly("the ID of a revocation, or --revision,")(cmd, args)
		},
	}
	cmd.Flags().Uint64Var(&of.revision, "revision", 0, "undo all that one write of this `revision` revoked")
	cmd.Flags().StringVar(&of.write, "write", "", "with --revision: which write, by the `ID` of its first revocation")
	conn := a.connection(cmd)
	w.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := w.check(cmd); err != nil {
			return err
		}
		if len(args) == 0 {
			return a.restoreWrite(cmd, conn, &w, &of)
		}
		return a.restoreOne(cmd, conn, &w, args[0])
	}
	return cmd
}

// check returns a fault of the flags.
func (f *writeFlags) check(cmd *cobra.Command, args []string) error {
	id, err := revocation.ParseID(f.write)
	switch {
	case len(args) > 0:
		return usage("%q is one argument too many: --revision undoes a whole write, an ID undoes one revocation", args[0])
	case !cmd.Flags().Changed("revision"):
		return usage("--write needs --revision")
	case f.revision == 0:
		return usage("--revision 0: revisions are counted from 1")
	case !cmd.Flags().Changed("write"):
		return nil
	case err != nil:
		return usage("--write: %w", err)
	case id.Revision != f.revision:
		return usage("--write %s is not of --revision %d", f.write, f.revision)
	}
	return nil
}

// restoreOne undoes one revocation.
func (a *app) restoreOne(cmd *cobra.Command, conn *connection, w *waitFlags, id string) error {
	c, path, err := conn.one(id)
	if err != nil {
		return err
	}
	request := call{method: http.MethodDelete, path: path}
	w.addTo(&request)
	res, err := c.do(cmd.Context(), request)
	if err != nil {
		return unknown(id, err)
	}
	var r control.Restoration
	if err := res.into(&r); err != nil {
		return err
	}
	text := fmt.Sprintf("restored %s, at revision %d", r.ID, r.Revision)
	if ago := res.date.Sub(r.RestoredAt); ago > 2*time.Second { // the date of the answer is cut to a second
		text = fmt.Sprintf("%s was restored already, %s by %s, at revision %d", r.ID, relative(-ago), printable.Quote(r.RestoredBy), r.Revision)
	}
	return a.restored(res, w, text, r.Replicas)
}

// restoreWrite undoes all that one write revoked.
func (a *app) restoreWrite(cmd *cobra.Command, conn *connection, w *waitFlags, of *writeFlags) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	request := call{method: http.MethodDelete, path: "/v1/revocations"}
	w.addTo(&request)
	request.set("revision", strconv.FormatUint(of.revision, 10))
	if of.write != "" {
		request.set("write", of.write)
	}
	res, err := c.do(cmd.Context(), request)
	if err != nil {
		return explainWrites(err, of.revision)
	}
	var r control.WriteRestoration
	if err := res.into(&r); err != nil {
		return err
	}
	text := fmt.Sprintf("restored %s of write %s, at revision %d", counted(r.Restored, "revocation"), r.Write, r.Revision)
	switch {
	case r.Restored == 0:
		text = fmt.Sprintf("write %s was restored already, at revision %d", r.Write, r.Revision)
	case r.Already > 0:
		text += fmt.Sprintf("; restored before: %s", grouped(r.Already))
	}
	return a.restored(res, w, text, r.Replicas)
}

// restored prints the answer to a restoration.
func (a *app) restored(res *answer, w *waitFlags, text string, applied *control.Applied) error {
	if a.output == "json" {
		if err := a.printJSON(res.body); err != nil {
			return err
		}
		return w.confirmed(res.status, applied)
	}
	if t := appliedText(applied); t != "" {
		text += "\n" + t
	}
	if _, err := fmt.Fprintln(a.out, text); err != nil {
		return err
	}
	return w.confirmed(res.status, applied)
}

// explainWrites adds to a refusal the writes of a revision that holds several, or
// the command that shows the writes of imports.
func explainWrites(err error, revision uint64) error {
	var r *refusal
	var f *failure
	switch {
	case !errors.As(err, &r) || r.foreign || !errors.As(err, &f):
		return err
	case r.Status == http.StatusNotFound:
		f.faults, f.hint = nil, "rescind audit shows the write of each import"
		return err
	case len(r.Writes) == 0:
		return err
	}
	f.message = fmt.Sprintf("nothing is restored: revision %d holds %d writes, and --write must name one:", revision, len(r.Writes))
	f.faults = nil
	for _, w := range r.Writes {
		f.faults = append(f.faults, writeText(&w))
	}
	f.hint = fmt.Sprintf("for example: rescind restore --revision %d --write %s", revision, r.Writes[0].ID)
	return err
}

// writeText returns a write for people.
func writeText(w *ledger.Write) string {
	return fmt.Sprintf("%s  %s by %s at %s", w.ID, counted(w.Count, "revocation"), terminal.Fit(printable.Quote(w.CreatedBy), 40), w.CreatedAt.UTC().Format(time.RFC3339))
}

// one opens the client for a command about one revocation, and returns its path.
func (c *connection) one(id string) (*client, string, error) {
	if _, err := revocation.ParseID(id); err != nil {
		return nil, "", usage("%w", err)
	}
	cl, err := c.open()
	return cl, "/v1/revocations/" + id, err
}
