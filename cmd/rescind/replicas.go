package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

func (a *app) replicas() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replicas [NAME]...",
		Short: "List the replicas, how far behind, and the issuers they accept",
		Example: `  rescind replicas
  rescind replicas replica-a -o wide`,
		Args: cobra.ArbitraryArgs,
	}
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		c, err := conn.open()
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return printDocument(cmd.Context(), a, c, "/v1/replicas", nil, a.printReplicas)
		}
		return a.namedReplicas(cmd.Context(), c, names)
	}
	return cmd
}

// namedReplicas prints the replicas with these names. It fails unless there is one
// for each name.
func (a *app) namedReplicas(ctx context.Context, c *client, names []string) error {
	res, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/replicas"})
	if err != nil {
		return err
	}
	var all listPage
	if err := res.into(&all); err != nil {
		return err
	}
	found := map[string]bool{}
	var items []json.RawMessage // as the API wrote them
	var list struct{ Items []control.Replica }
	for _, item := range all.Items {
		var r control.Replica
		if err := (&answer{body: item}).into(&r); err != nil {
			return err
		}
		if slices.Contains(names, r.Name) {
			found[r.Name] = true
			items, list.Items = append(items, item), append(list.Items, r)
		}
	}
	for _, name := range names {
		if !found[name] {
			return &failure{status: statusFailed, message: fmt.Sprintf("no replica is named %s", printable.Quote(name)), hint: "rescind replicas shows the names"}
		}
	}
	if a.output == "json" {
		return a.printValue(map[string]any{"items": items})
	}
	return a.printReplicas(&list)
}

// replicaColumns are the columns of replicas. A name is never cut, because the
// names of pods differ in their last characters.
var replicaColumns = []column{
	{title: "STATE"}, {title: "NAME"}, {title: "REVISION"}, {title: "BEHIND"}, {title: "ENTRIES"}, {title: "LAST ACK"},
	{title: "VERSION", least: 7}, {title: "ISSUERS", least: 12}, {title: "CREDENTIAL", wide: true},
}

func (a *app) printReplicas(list *struct{ Items []control.Replica }) error {
	if len(list.Items) == 0 {
		note(a.errs, "no replica follows, and none was lost in the last minute")
		return nil
	}
	t := &table{screen: a.screen(), columns: replicaColumns}
	for _, r := range list.Items {
		ack, behind := "never", cell{text: strconv.FormatUint(r.Behind, 10)}
		if r.LastAck != nil {
			ack = t.when(*r.LastAck)
		}
		if r.Behind > 0 {
			behind.tone = warning
		}
		t.add(replicaState(&r), cell{text: printable.Quote(r.Name)}, cell{text: strconv.FormatUint(r.Revision, 10)}, behind,
			cell{text: strconv.FormatUint(r.Entries, 10)}, cell{text: ack}, cell{text: versionText(&r)},
			cell{text: issuersText(r.Issuers)}, cell{text: printable.Quote(r.Credential)})
	}
	return t.flush()
}

// replicaState returns the state of a replica. An incomplete one loads all
// revocations again, and a lost one was connected within the last minute.
func replicaState(r *control.Replica) cell {
	switch {
	case r.Incomplete:
		return cell{"incomplete", bad}
	case r.Connected:
		return cell{"connected", good}
	}
	return cell{"lost", bad}
}

// versionText returns the version of a replica. The first edition reports none.
// Nothing is known of a replica that was not connected since the control endpoint
// started.
func versionText(r *control.Replica) string {
	switch {
	case r.Version == "" && !r.Connected && r.LastAck == nil:
		return "unknown"
	case r.Version == "":
		return "first edition"
	}
	return printable.Quote(r.Version)
}

// issuersText returns the issuers that a replica accepts.
func issuersText(issuers []string) string {
	if issuers == nil {
		return "not reported"
	}
	names := make([]string, len(issuers))
	for i, name := range issuers {
		names[i] = printable.Quote(name)
	}
	return strings.Join(names, " ")
}
