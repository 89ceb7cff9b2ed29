package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

func (a *app) replicas() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replicas",
		Short: "List the replicas, with the revision, the lag and the issuers of each",
		Args:  exactly(),
	}
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := conn.open()
		if err != nil {
			return err
		}
		return printDocument(cmd.Context(), a, c, "/v1/replicas", nil, a.printReplicas)
	}
	return cmd
}

func (a *app) printReplicas(list *struct{ Items []control.Replica }) error {
	if len(list.Items) == 0 {
		note(a.errs, "no replica follows, nor did one in the last minute")
		return nil
	}
	t := columns(a.out)
	row(t, "NAME", "CONNECTED", "REVISION", "BEHIND", "ENTRIES", "LAST ACK", "VERSION", "ISSUERS")
	for _, r := range list.Items {
		connected, ack := "no", "never"
		if r.Connected {
			connected = "yes"
		}
		if r.Incomplete {
			connected = "incomplete"
		}
		if r.LastAck != nil {
			ack = timeText(*r.LastAck, a.now())
		}
		row(t, printable.Quote(r.Name), connected, strconv.FormatUint(r.Revision, 10),
			strconv.FormatUint(r.Behind, 10), strconv.FormatUint(r.Entries, 10), ack, versionText(r.Version), issuersText(r.Issuers))
	}
	return t.Flush()
}

// versionText returns the version of a replica. The first edition reports none.
func versionText(version string) string {
	if version == "" {
		return "first edition"
	}
	return printable.Quote(version)
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
