package main

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rescind/revocation/control"
	"rescind/revocation/insight"
)

// A shell asks for completions while a person types. So a completion makes one
// short attempt, and an error yields no completion and no message.

// completionTime bounds the requests for one completion.
const completionTime = time.Second

// complete adds the completions of all commands below root.
func (a *app) complete(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	fixed(root, "output", outputs...)
	for _, cmd := range root.Commands() {
		completeFiles(cmd)
		switch cmd.Name() {
		case "list":
			fixed(cmd, "kind", targetKinds...)
		case "show":
			cmd.ValidArgsFunction = a.ids("")
		case "restore":
			cmd.ValidArgsFunction = a.ids("true")
		case "replicas":
			cmd.ValidArgsFunction = a.offer(replicaNames)
		case "import":
			cmd.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
		case "init", "envoy-module":
			cmd.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case "alerts":
			var detectors []string
			for _, d := range insight.Detectors {
				detectors = append(detectors, string(d))
			}
			fixed(cmd, "detector", detectors...)
		}
		if a.connections[cmd] != nil && cmd.Flags().Lookup("issuer") != nil {
			_ = cmd.RegisterFlagCompletionFunc("issuer", a.offer(issuerNames))
		}
	}
}

// completeFiles offers files for the flags of a command, and of those below it,
// that name one.
func completeFiles(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasSuffix(f.Name, "-file") {
			_ = cmd.MarkFlagFilename(f.Name)
		}
	})
	for _, below := range cmd.Commands() {
		completeFiles(below)
	}
}

// fixed lets the shell choose the value of a flag from a list.
func fixed(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// source reads the words that may stand in one place from the API.
type source func(ctx context.Context, c *client) ([]cobra.Completion, error)

// offer returns the completion that offers the words of a source.
func (a *app) offer(from source) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		c, err := a.connections[cmd].open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		words, err := from(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words = slices.DeleteFunc(words, func(word cobra.Completion) bool {
			text, _, _ := strings.Cut(word, "\t")
			return !strings.HasPrefix(text, begun) || shellQuote(text) != text || slices.Contains(args, text)
		})
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// ids returns the completion of one ID of a revocation, with its target as the
// description. The newest come first. With active "true" it offers revocations in
// force alone.
func (a *app) ids(active string) cobra.CompletionFunc {
	offer := a.offer(func(ctx context.Context, c *client) (words []cobra.Completion, err error) {
		v := url.Values{"limit": {"100"}}
		if active != "" {
			v.Set("active", active)
		}
		var list struct{ Items []control.Document }
		err = c.read(ctx, "/v1/revocations", v, &list)
		for i := range list.Items {
			d := &list.Items[i]
			words = append(words, cobra.CompletionWithDesc(d.ID, stateCell(d).text+", "+targetText(&d.Target)))
		}
		return words, err
	})
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd, args, begun)
	}
}

// replicaNames returns the names of the replicas, with their state.
func replicaNames(ctx context.Context, c *client) (words []cobra.Completion, err error) {
	var list struct{ Items []control.Replica }
	err = c.read(ctx, "/v1/replicas", nil, &list)
	for i := range list.Items {
		words = append(words, cobra.CompletionWithDesc(list.Items[i].Name, replicaState(&list.Items[i]).text))
	}
	return words, err
}

// issuerNames returns the issuers that a replica accepts.
func issuerNames(ctx context.Context, c *client) (words []cobra.Completion, err error) {
	var list struct{ Items []control.Replica }
	err = c.read(ctx, "/v1/replicas", nil, &list)
	for i := range list.Items {
		words = append(words, list.Items[i].Issuers...)
	}
	slices.Sort(words)
	return slices.Compact(words), err
}

// read makes one attempt to read a document of the API.
func (c *client) read(ctx context.Context, path string, v url.Values, into any) error {
	res, err := c.once(ctx, call{method: http.MethodGet, path: path, query: v})
	if err != nil {
		return err
	}
	return res.into(into)
}
