package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/deployment"
	"rescind/revocation/printable"
)

func (a *app) token() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make bearer tokens for control.yaml",
		Args:  known,
		RunE:  func(cmd *cobra.Command, _ []string) error { return usage("name the action: rescind token new NAME") },
	}
	fresh := &cobra.Command{
		Use:   "new NAME",
		Short: "Print a new random token once, and its line for control.yaml",
		Long: `Prints a new random token, and its line for control.yaml. The line holds the
SHA-256 of the token alone, and the token is kept nowhere. Put the line under
admin.tokens and choose its roles (viewer, revoker, operator), or without roles
under feed.tokens.`,
		Example: "  rescind token new hr-sync",
		Args:    exactly("the name of the token's owner"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.newToken(args[0]) },
	}
	cmd.AddCommand(fresh)
	return cmd
}

func (a *app) newToken(name string) error {
	if err := printable.Check(name); err != nil || name == "" || len(name) > 256 {
		return usage("%q is not a name: it must be 1 to 256 bytes of printable text", name)
	}
	t := deployment.NewToken()
	quoted, err := json.Marshal(name)
	if err != nil {
		return err
	}
	line := fmt.Sprintf(`- {name: %s, sha256: "%s", roles: [viewer]}`, quoted, t.SHA256)
	if a.output == "json" {
		text, err := json.Marshal(map[string]string{"name": name, "token": t.Text, "sha256": t.SHA256, "line": line})
		if err != nil {
			return err
		}
		return a.printJSON(text)
	}
	note(a.errs, "The token is shown once; keep it in a file of mode 0600. Its line is for admin.tokens, or without roles for feed.tokens.")
	_, err = fmt.Fprintf(a.out, "%s\n%s\n", t.Text, line)
	return err
}
