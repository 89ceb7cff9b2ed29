package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"rescind/revocation"
	"rescind/revocation/control"
)

func (a *app) restore() *cobra.Command {
	var w waitFlags
	cmd := &cobra.Command{
		Use:     "restore ID",
		Short:   "Undo one revocation",
		Long:    "Undoes one revocation. Others that match the same tokens stay in force.",
		Example: "  rescind restore r17.0 --wait",
		Args:    exactly("the ID of a revocation"),
	}
	conn := a.connection(cmd)
	w.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, path, err := conn.one(args[0])
		if err == nil {
			err = w.check(cmd)
		}
		if err != nil {
			return err
		}
		request := call{method: http.MethodDelete, path: path}
		w.addTo(&request)
		res, err := c.do(cmd.Context(), request)
		if err != nil {
			return unknown(err)
		}
		var r control.Restoration
		if err := res.into(&r); err != nil {
			return err
		}
		if a.output == "json" {
			err = a.printJSON(res.body)
		} else {
			_, err = fmt.Fprintf(a.out, "restored %s, at revision %d\n", r.ID, r.Revision)
			if t := appliedText(r.Replicas); t != "" {
				_, err = fmt.Fprintln(a.out, t)
			}
		}
		if err != nil {
			return err
		}
		return w.confirmed(res.status, r.Replicas)
	}
	return cmd
}

// one opens the client for a command about one revocation, and returns its path.
func (c *connection) one(id string) (*client, string, error) {
	if _, err := revocation.ParseID(id); err != nil {
		return nil, "", usage("%w", err)
	}
	cl, err := c.open()
	return cl, "/v1/revocations/" + id, err
}
