package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

const intakesLong = `Lists the intakes: the entries of control.yaml that turn the events of identity
providers into revocations. Counts are since the start of each control node.

An event that would deny more than limits.share_of_traffic is held. Nothing is
revoked until an operator releases it.`

func (a *app) intakes() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "intakes",
		Short: "List the intakes of events; release or drop a held event",
		Long:  intakesLong,
		Example: `  rescind intakes
  rescind intakes held
  rescind intakes release 0123456789abcdef`,
		Args: known,
	}
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := conn.open()
		if err != nil {
			return err
		}
		return printDocument(cmd.Context(), a, c, "/v1/intakes", nil, a.printIntakes)
	}
	cmd.AddCommand(a.held(), a.release(), a.drop())
	return cmd
}

var intakeColumns = []column{
	{title: "STATE"}, {title: "NAME"}, {title: "KIND", least: 6}, {title: "HELD"}, {title: "LAST EVENT"}, {title: "LAG"},
	{title: "EVENTS", least: 12}, {title: "ERROR", least: 12}, {title: "ISSUERS", least: 12}, {title: "MAY", wide: true}, {title: "LAST SUCCESS", wide: true},
}

func (a *app) printIntakes(list *struct{ Items []control.Intake }) error {
	if len(list.Items) == 0 {
		note(a.errs, "there is no intake; control.yaml names them under intake")
		return nil
	}
	t := &table{screen: a.screen(), columns: intakeColumns}
	held := 0
	for i := range list.Items {
		in := &list.Items[i]
		held += in.Held
		waiting := cell{text: grouped(in.Held)}
		if in.Held > 0 {
			waiting.tone = bad
		}
		fault := cell{text: printable.Quote(in.Error)}
		if in.Error != "" {
			fault = cell{fault.text, bad}
		}
		t.add(intakeState(in), cell{text: printable.Quote(in.Name)}, cell{text: printable.Quote(in.Kind)}, waiting,
			cell{text: t.moment(in.LastEvent)}, cell{text: lagText(in)}, cell{text: countsText(in.Events)},
			fault, cell{text: issuersText(in.Issuers)}, cell{text: strings.Join(in.May, " ")}, cell{text: t.moment(in.LastSuccess)})
	}
	if err := t.flush(); err != nil {
		return err
	}
	if held > 0 {
		note(a.errs, "%s held; rescind intakes held shows what they would revoke", isOrAre(held))
	}
	return nil
}

func isOrAre(n int) string {
	if n == 1 {
		return "1 event is"
	}
	return grouped(n) + " events are"
}

// moment returns a time that may be absent.
func (s *screen) moment(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return s.when(*t)
}

// intakeState returns the state of an intake. One in dry run revokes nothing, which
// matters more than that it is well.
func intakeState(in *control.Intake) cell {
	switch {
	case in.State == "failing":
		return cell{in.State, bad}
	case in.DryRun:
		return cell{"dry run", quiet}
	case in.State == "ok":
		return cell{in.State, good}
	}
	return cell{printable.Quote(in.State), quiet}
}

// lagText returns how far behind its sender an intake is.
func lagText(in *control.Intake) string {
	if in.LastSuccess == nil {
		return "unknown"
	}
	return time.Duration(in.Lag).Round(time.Millisecond).String()
}

// countsText returns the counts above 0, by outcome.
func countsText(counts map[string]uint64) string {
	var parts []string
	for _, outcome := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[outcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", grouped(int(min(n, 1<<62))), printable.Quote(outcome)))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (a *app) held() *cobra.Command {
	cmd := &cobra.Command{
		Use: "held", Short: "List the events that wait for an operator", Args: known,
		Example: "  rescind intakes held -o wide",
	}
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := conn.open()
		if err != nil {
			return err
		}
		return printDocument(cmd.Context(), a, c, heldPath, nil, a.printHeld)
	}
	return cmd
}

const heldPath = "/v1/intakes/held"

var heldColumns = []column{
	{title: "ID"}, {title: "INTAKE", least: 6}, {title: "HAPPENED"}, {title: "WOULD REVOKE", least: 16}, {title: "ISSUED BEFORE"},
	{title: "WHY", least: 16}, {title: "TYPE", least: 12}, {title: "ISSUER", least: 12}, {title: "EVENT", wide: true}, {title: "RECEIVED", wide: true},
}

func (a *app) printHeld(list *struct{ Items []control.HeldEvent }) error {
	if len(list.Items) == 0 {
		note(a.errs, "no event is held")
		return nil
	}
	t := &table{screen: a.screen(), columns: heldColumns}
	for i := range list.Items {
		e := &list.Items[i]
		for j := range e.Effects {
			f := &e.Effects[j]
			t.add(cell{text: e.ID}, cell{text: printable.Quote(e.Intake)}, cell{text: t.when(e.At)}, cell{text: targetText(&f.Target)},
				cell{text: cutoffText(&control.Document{Block: f.Block, IssuedBefore: f.IssuedBefore})}, cell{text: printable.Quote(f.Why)},
				cell{text: printable.Quote(e.Type)}, t.issuer(f.Issuer), cell{text: printable.Quote(e.Event)}, cell{text: t.when(e.Received)})
		}
	}
	return t.flush()
}

func (a *app) release() *cobra.Command {
	cmd := a.aboutHeld("release ID", "Carry out a held event")
	cmd.Long = `Carries out a held event with your confirmation. Its revocations stay those of the
intake, so a later event can undo them. The audit names you and the intake.`
	conn := a.connections[cmd]
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		res, err := conn.heldEvent(cmd.Context(), http.MethodPost, args[0])
		if err != nil {
			return err
		}
		if a.output == "json" {
			return a.printJSON(res.body)
		}
		var r control.Release
		if err := res.into(&r); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "released %s: %s\n", printable.Quote(r.ID), strings.Join(r.Revocations, " "))
		return err
	}
	return cmd
}

func (a *app) drop() *cobra.Command {
	cmd := a.aboutHeld("drop ID", "Forget a held event")
	cmd.Long = "Forgets a held event. Nothing is revoked, and the audit names you."
	conn := a.connections[cmd]
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		res, err := conn.heldEvent(cmd.Context(), http.MethodDelete, args[0])
		if err != nil {
			return err
		}
		if a.output == "json" {
			return a.printJSON(res.body)
		}
		_, err = fmt.Fprintf(a.out, "dropped %s, and revoked nothing\n", printable.Quote(args[0]))
		return err
	}
	return cmd
}

// aboutHeld returns a command about one held event, still without its work.
func (a *app) aboutHeld(use, short string) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly("the ID of a held event, as rescind intakes held shows it,"),
		Example: "  rescind intakes " + verb + " 0123456789abcdef",
	}
	a.connection(cmd)
	offer := a.offer(heldIDs)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd, args, begun)
	}
	return cmd
}

// heldEvent makes the call for one held event.
func (c *connection) heldEvent(ctx context.Context, method, id string) (*answer, error) {
	if len(id) > 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return nil, usage("%s is not the ID of a held event; rescind intakes held shows them", printable.Quote(id))
	}
	cl, err := c.open()
	if err != nil {
		return nil, err
	}
	res, err := cl.do(ctx, call{method: method, path: heldPath + "/" + id})
	return res, unknownIn("rescind intakes held", id, err)
}

// heldIDs returns the IDs of held events, with their targets.
func heldIDs(ctx context.Context, c *client) (words []cobra.Completion, err error) {
	var list struct{ Items []control.HeldEvent }
	err = c.read(ctx, heldPath, nil, &list)
	for i := range list.Items {
		e := &list.Items[i]
		text := e.Type
		if len(e.Effects) > 0 {
			text = targetText(&e.Effects[0].Target)
		}
		words = append(words, cobra.CompletionWithDesc(e.ID, e.Intake+", "+text))
	}
	return words, err
}
